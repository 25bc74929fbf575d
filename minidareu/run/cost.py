"""What a part of a run costs: the most memory that it takes, and rows by the paper's cost model.

Memory is of the device on cuda, of the process elsewhere (Linux only).
"""

from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory():
    """Begin to measure anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        RESET.write_text("5")  # "reset the peak resident set size", proc(5)
    except OSError:
        pass


def peak_memory() -> float | None:
    """Megabytes at the highest since `reset_peak_memory`; None where that can't be known."""
    on_device = torch.cuda.max_memory_allocated()  # 0 where nothing ran on one
    if on_device:
        return on_device / 1e6
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes[0] * 1024 / 1e6 if kilobytes else None


def forward_rows(config, n_forget, n_retain, passes):
    """{stage: rows that pass forward} by the cost model of App. G; a backward pass counts as two.

    Retraining reads D_R in so many passes. DareU draws and scores B_f, then makes S_PPO updates on
    B_f and B_r. DareU+ does so at each update.
    """
    c = config
    batches = -(-n_forget // c["forget_batch"])
    steps = batches * c["ppo_steps"]
    drawn = 3 * n_forget + batches * c["retain_batch"]  # a response, its log-probabilities twice
    learned = 3 * steps * (c["forget_batch"] + c["retain_batch"])
    plus_update = (2 + 3) * c["forget_batch"] + (1 + 3) * c["retain_batch"]
    return {
        "retrained": 3 * passes * n_retain,
        "dareu": c["data_epochs"] * (drawn + learned),
        "dareu_plus": c["plus_updates"] * plus_update,
    }
