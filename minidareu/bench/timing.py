"""Two things timed in turn, so that whatever else the machine does slows both alike."""

import time
from statistics import median

import torch

from ..run.cost import peak_memory, reset_peak_memory


def seconds_of(work):
    """Seconds that `work()` takes, the accelerator's share included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def megabytes_of(work):
    """The most memory while `work()` runs, as text: of the device on cuda, of the whole process
    elsewhere."""
    reset_peak_memory()
    work()
    peak = peak_memory()
    return "-" if peak is None else f"{peak:,.0f}"


def in_turn(first, second, repeats):
    """Run two functions in turn: lists of their seconds, after one run of each to warm up."""
    first(), second()
    pairs = [(seconds_of(first), seconds_of(second)) for _ in range(repeats)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def ratios(ours, peers):
    """How many times as long the peer takes, each time."""
    return [peer / own for own, peer in zip(ours, peers, strict=True)]


def matmul_peak(device, size=2048, repeats=10):
    """The most floating-point operations a second that a matrix product reaches here."""
    a = torch.randn(size, size, device=device)
    torch.mm(a, a)
    return 2 * size**3 / min(seconds_of(lambda: torch.mm(a, a)) for _ in range(repeats))


def shown(values, digits=2):
    """Median, least and largest; of one value, that alone."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
