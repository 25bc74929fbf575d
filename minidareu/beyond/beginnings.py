"""Where DareU+'s responses begin: b_d, a part of an answer of the original model."""

import random

from ..data import Ids
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
