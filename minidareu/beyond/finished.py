"""A finished run, opened with its models and with what they are measured with."""

from pathlib import Path

from ..attribution import OwnerClassifier
from ..files import InputError
from ..model import GPT
from ..run.prepare import Run, open_run
from ..run.stages import load_classifier, load_models
from ..scores.evaluation import Evaluator, make_evaluator


def open_finished(folder: Path, device: str) -> tuple[Run, dict[str, GPT], OwnerClassifier]:
    """A finished run, its models, and its classifier. Raises InputError."""
    run = open_run(folder, device)
    return run, load_models(run), load_classifier(run)


def open_evaluator(folder: Path, device: str) -> tuple[Run, dict[str, GPT], Evaluator]:
    """A finished run, its models, and what they are measured with. Raises InputError."""
    run, models, classifier = open_finished(folder, device)
    if not run.config.retrained:
        raise InputError(f"{folder}: has no retrained model to compare with; run it with one")
    return run, models, make_evaluator(run, models, classifier)
