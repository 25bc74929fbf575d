"""The most memory that a part of a run takes: on cuda the device's, else the process's (Linux)."""

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
