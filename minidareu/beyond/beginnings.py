"""Where DareU+'s responses begin: b_d, a part of an answer of the original model."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from ..data import Ids, Pair
from ..dareu import Config
from ..model import Policy


def sampled_answers(
    original: Policy, prompts: list[Ids], config: Config, limits: dict
) -> list[Ids]:
    """An answer of pi_N to each prompt, a batch at a time."""
    answers: list[Ids] = []
    for i in range(0, len(prompts), config.forget_batch):
        part = prompts[i : i + config.forget_batch]
        answers += original.generate(part, temperature=config.plus_temperature, **limits)
    return answers


def beginning(answer: Ids, share: float, rng: random.Random) -> Ids:
    """b_d: with probability `share` the answer up to a random token, else nothing."""
    return answer[: rng.randrange(len(answer) + 1)] if rng.random() < share else []


def read_attribution(
    attribute: Callable, begun: list[Pair], added: list[Ids], length: int
) -> Tensor:
    """a_t after t = 0, 1, ... tokens of b_d and what was added: (B, length + 1).

    It stays as it is at the end of a response.
    """
    prompts = [x for x, _ in begun]
    whole = [b + y for (_, b), y in zip(begun, added, strict=True)]
    attribution = attribute(prompts, whole)
    at = torch.arange(length + 1, device=attribution.device).clamp(max=attribution.size(1) - 1)
    return attribution[:, at]
