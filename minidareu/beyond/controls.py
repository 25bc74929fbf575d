"""Controls: does the reward teach anything? What stands in the place of the attribution.

A run's `--reward` names one; all else stays as it is.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

SOURCES = ["beyond/controls"]


def constant(attribute: Callable, *texts) -> Tensor:
    """0.5 for every text."""
    return torch.full_like(attribute(*texts), 0.5)


def random(attribute: Callable, *texts) -> Tensor:
    """Uniform random numbers."""
    return torch.rand_like(attribute(*texts))


def reversed_attribution(attribute: Callable, *texts) -> Tensor:
    """One minus the attribution."""
    return 1 - attribute(*texts)


def shuffled(attribute: Callable, *texts) -> Tensor:
    """The attribution of another response of the batch."""
    attribution = attribute(*texts)
    distance = torch.randint(1, max(2, len(attribution)), ())  # a batch is in random order
    return attribution.roll(int(distance), dims=0)


CONTROLS = {
    "constant": constant,
    "random": random,
    "reversed": reversed_attribution,
    "shuffled": shuffled,
}


def controlled(attribute: Callable, reward: str) -> Callable:
    """`attribute` itself, or the control that `reward` names, with the same arguments and shape."""
    return partial(CONTROLS[reward], attribute) if reward in CONTROLS else attribute
