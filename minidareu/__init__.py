import os

# For two runs side by side. A thread that waits for others of its run spins meanwhile, and so takes
# the core that another run's thread needs. On two cores, beside another run, training took 4 times
# as long as alone; with so short a spin 2.3 times, and alone it is as fast. It has to be set before
# torch is loaded (GNU's OpenMP reads it there).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
