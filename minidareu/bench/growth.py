"""What retraining, DareU and DareU+ cost as the data grow, and what they reach (ToW).

Runs of `train.py` on invented authors, one after another, each with all cores
(`OMP_NUM_THREADS=1`: with one).
"""

import subprocess
import sys

import torch

from ..run.pool import ROOT, Job, run
from .speed import shown

OWNERS = [10, 20, 40, 80, 160]
FORGOTTEN = [1, 2, 5, 10, 20]  # of 80
METHODS = {"dareu": "DareU", "dareu_plus": "DareU+"}


def dataset(n_owners, folder):
    """A file of so many invented authors."""
    path = folder / f"authors-{n_owners}.jsonl"
    if not path.exists():
        script = ROOT / "data/authors/prepare.py"
        command = [sys.executable, str(script), "--owners", str(n_owners), "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def measure(n_owners, n_forget, seed, folder):
    """Figures of one run."""
    path = dataset(n_owners, folder)
    flags = ["--data", path, "--n-forget", n_forget, "--seed", seed]
    flags += ["--methods", ",".join(METHODS)]
    job = Job(folder / f"owners-{n_owners}-forget-{n_forget}-seed{seed}", flags)
    results = run(job, threads=torch.get_num_threads())
    seconds, models = results["seconds"], results["models"]
    figures = {"retrained": {"seconds": seconds["retrained"]}}
    for name in METHODS:
        figures[name] = {
            "seconds": seconds[name],
            "of retraining": seconds[name] / seconds["retrained"],
            "ToW": models[name]["tow"],
        }
    return figures


def growth(folder, n_seeds):
    """Rows of the table, a line for each number of owners and of those forgotten."""
    cases = [(n, 2) for n in OWNERS] + [(80, n) for n in FORGOTTEN if n != 2]
    lines, found = [], {}
    for n_owners, n_forget in cases:
        runs = [measure(n_owners, n_forget, seed, folder) for seed in range(n_seeds)]
        found[n_owners, n_forget] = runs
        cells = [str(n_owners), str(n_forget), shown([r["retrained"]["seconds"] for r in runs], 1)]
        for name in METHODS:
            cells.append(shown([r[name]["seconds"] for r in runs], 1))
            cells.append(shown([r[name]["of retraining"] for r in runs]))
            cells.append(shown([r[name]["ToW"] for r in runs], 3))
        lines.append(cells)
        print("| " + " | ".join(cells) + " |", flush=True)
    head = ["owners", "forgotten", "retraining, s"]
    for name in METHODS.values():
        head += [f"{name}, s", "of retraining", "ToW"]
    figures = {f"{n} owners, {m} forgotten": runs for (n, m), runs in found.items()}
    return head, lines, figures
