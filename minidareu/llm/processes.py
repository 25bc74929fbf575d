"""The rows of a batch over the processes of `accelerate launch`; one process has them all.

Each process computes its rows and sees the states of all: every process makes the same advantages
and the same loss, of the whole batch. The mean of their gradients is the gradient of that loss.
"""

import functools

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.distributed.nn.functional import all_gather


@functools.cache
def process():
    """accelerate's state: process_index, num_processes, is_main_process, device."""
    return PartialState(cpu=not torch.cuda.is_available())


def own_rows(rows):
    """This process's rows of a tensor or a list; the first one where it would have none."""
    most = -(-len(rows) // process().num_processes)
    own = rows[process().process_index * most :][:most]
    return own if len(own) else rows[:1]


def gather_rows(own: Tensor, n_rows: int) -> Tensor:
    """The rows of all processes, in order: (b, ...) each -> (B, ...)."""
    n = process().num_processes
    if n == 1:
        return own
    most = -(-n_rows // n)
    padding = own.new_zeros(most - len(own), *own.shape[1:])
    # In its gradient all processes' losses, which are equal, are added up.
    return torch.cat(all_gather(torch.cat([own, padding])))[:n_rows]


def average_gradients(parameters) -> None:
    """From now on each gradient of these is the mean over the processes."""
    for p in parameters if process().num_processes > 1 else []:
        p.register_hook(lambda grad: reduce(grad.contiguous(), reduction="mean"))
