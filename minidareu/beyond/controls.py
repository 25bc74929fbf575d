"""Controls: does the reward teach anything? What stands in the place of the attribution.

"constant": 0.5 for every text; "random": uniform random numbers; "reversed": one minus the
attribution. A run's `--reward` names one; all else stays as it is.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def controlled(attribute: Callable, reward: str) -> Callable:
    """`attribute` itself, or the control that `reward` names, with the same arguments and shape."""

    def control(*texts) -> Tensor:
        attribution = attribute(*texts)
        if reward == "constant":
            return torch.full_like(attribution, 0.5)
        if reward == "random":
            return torch.rand_like(attribution)
        return 1 - attribution

    return control if reward in ("constant", "random", "reversed") else attribute
