"""What the two methods of a run are rewarded by: the attribution, or a control in its place."""

from collections.abc import Callable
from functools import partial

from ..attribution import OwnerClassifier, forget_attribution, prefix_attribution
from ..run.prepare import Run
from .controls import controlled


def dareu_attribution(run: Run, classifier: OwnerClassifier) -> Callable:
    """What DareU is given: (prompts, responses, owners) -> (B, longest + 1)."""
    attribute = partial(prefix_attribution, classifier)
    return controlled(attribute, run.config.control or run.config.reward)


def plus_attribution(run: Run, classifier: OwnerClassifier) -> Callable:
    """What DareU+ is given: (prompts, responses) -> (B, longest + 1)."""
    attribute = partial(forget_attribution, classifier, forget_owners=run.forget_owners)
    return controlled(attribute, run.config.control or run.config.reward)
