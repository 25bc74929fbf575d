"""What the two methods of a run are rewarded by: an attribution, or a control in its place."""

from collections.abc import Callable
from functools import partial

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
        classifier = classifiers[kind]
        attribute = partial(forget_attribution, classifier, forget_owners=run.forget_owners)
    return controlled(attribute, run.config.control or run.config.reward)
