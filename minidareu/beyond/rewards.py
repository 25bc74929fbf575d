"""What the two methods of a run are rewarded by: an attribution, or a control in its place."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from ..attribution import prefix_attribution
from ..run.prepare import Run
from .added import forget_attribution
from .controls import controlled
from .exact import exact_attribution


def dareu_attribution(run: Run, classifiers: dict) -> Callable:
    """What DareU is given: (prompts, responses, owners) -> (B, longest + 1)."""
    attribute = partial(prefix_attribution, classifiers["response"])
    return controlled(attribute, run.config.control or run.config.reward)


def plus_attribution(run: Run, models: dict, classifiers: dict) -> Callable:
    """What DareU+ is given, by --plus-attribution: (prompts, responses) -> (B, longest + 1)."""
    kind = run.config.plus_attribution
    if kind == "exact":
        attribute = partial(exact_attribution, models["original"], models["retrained"])
    else:
        attribute = partial(forget_attribution, classifiers[kind], forget_owners=run.forget_owners)
    if kind == "response":
        share = len(run.split.forget) / len(run.train)
        attribute = partial(whole_attribution, attribute, share=share)
    return controlled(attribute, run.config.control or run.config.reward)


def whole_attribution(attribute: Callable, prompts, responses, share: float) -> Tensor:
    """An attribution whose a_0 is the share of the forget rows. DareU's classifier reads whole
    responses: what it says before the first token was never trained."""
    attribution = attribute(prompts, responses)
    attribution[:, 0] = share
    return attribution
