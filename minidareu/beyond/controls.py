"""Controls: does the reward teach anything? What stands in the place of the attribution.

"constant": 0.5 for every text; "random": uniform random numbers; "reversed": one minus the
attribution; "shuffled": the attribution of another response of the batch. A run's `--reward` names
one; all else stays as it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..run.flags import CONTROLS


def controlled(attribute: Callable, reward: str) -> Callable:
    """`attribute` itself, or the control that `reward` names, with the same arguments and shape."""

    def control(*texts) -> Tensor:
        attribution = attribute(*texts)
        if reward == "constant":
            return torch.full_like(attribution, 0.5)
        if reward == "random":
            return torch.rand_like(attribution)
        if reward == "shuffled":  # a batch is in random order, so any distance serves
            distance = torch.randint(1, max(2, len(attribution)), ())
            return attribution.roll(int(distance), dims=0)
        return 1 - attribution

    return control if reward in CONTROLS else attribute
