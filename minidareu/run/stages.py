"""The stages of a run in its folder, and the one rule of what is kept.

A stage (a language model, the classifier, a method) has a fingerprint of all that it is made from:
the weights that it begins with, its data, its settings, and its source. While that stays the same,
its model is taken from its file. Scores are never kept.
"""

import copy
import hashlib
import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import get_type_hints

import torch
from tqdm import tqdm

from ..attribution import OwnerClassifier
from ..data import Task
from ..files import InputError
from ..model import GPT
from .cost import peak_memory, reset_peak_memory
from .flags import Config, DataConfig, RunConfig, comments
from .folder import RESULTS, read_checkpoint, read_results, write_checkpoint
from .prepare import Run

PACKAGE = Path(__file__).parents[1]
WIDE = 256  # channels, below which one thread is enough, so that digits do not vary


def source_of(function) -> str:
    """A digest of the files that a function runs through: those that its module names as SOURCES,
    or its own. Raises TypeError or OSError for one that has no file."""
    if getattr(function, "__closure__", None) or "<" in function.__qualname__:
        raise TypeError("depends on more than its file")
    names = getattr(sys.modules.get(function.__module__), "SOURCES", None)
    files = [PACKAGE / f"{name}.py" for name in names] if names else [inspect.getfile(function)]
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def plain(value):
    """A value as JSON that differs where the value does. Raises TypeError for one without."""
    if isinstance(value, partial):
        return [plain(part) for part in (value.func, value.args, value.keywords)]
    if inspect.isfunction(value):
        return [value.__qualname__, source_of(value)]
    if hasattr(value, "state_dict"):
        weights = value.state_dict().items()
        digests = [[name, hashlib.sha256(bytes_of(w)).hexdigest()] for name, w in weights]
        beside = [getattr(value, name, "") for name in ("digest", "reads")]  # what no weight tells
        return [source_of(type(value)), digests, beside]
    if is_dataclass(value):
        return [source_of(type(value)) if callable(value) else "", plain(vars(value))]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def bytes_of(weight: torch.Tensor) -> bytes:
    return weight.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes()


def fingerprint(*values) -> str | None:
    """A digest of values; None, which is never kept, where one of them has none."""
    try:
        return hashlib.sha256(json.dumps(plain(values), sort_keys=True).encode()).hexdigest()
    except (TypeError, OSError):
        return None


def settings_of(unlearn: Callable, config: Config) -> dict:
    """What a method reads: the fields of the class that its `config` is annotated with. Without
    one, all settings but those of the run, the data, and who is forgotten."""
    call = unlearn if inspect.isfunction(unlearn) else type(unlearn).__call__
    kind, others = get_type_hints(call).get("config"), []
    if not is_dataclass(kind):
        kind, others = Config, [*comments(RunConfig), *comments(DataConfig)]
    names = [name for name in kind.__dataclass_fields__ if name not in others]
    return {name: getattr(config, name) for name in names}


def fitted(run: Run, name: str, model, fit: Callable):
    """`model` after passes = fit(model), or as it was fitted before."""
    key = fingerprint(fit, model, run.facts)
    state = find_kept(run, name, key)
    if state is None:
        reset_peak_memory()
        began, threads = time.perf_counter(), torch.get_num_threads()
        torch.set_num_threads(1 if model.width < WIDE else threads)
        passes = fit(model, desc=name, disable=None)
        torch.set_num_threads(threads)
        seconds = time.perf_counter() - began
        state = {"model": model.state_dict(), "passes": passes, "seconds": seconds}
        save(run, name, key, state)
    model.load_state_dict(state["model"])
    tell(run, name, state)
    return model


def kept_updates(run: Run, name: str, policy, *, unlearn: Callable, task: Task) -> Iterator[dict]:
    """The figures of each update by which a method makes `policy` forget, in place. What was made
    before is gone through again: the same figures, and the policy as it was at those `on_curve`.

    Ends early where a figure is no number any more.
    """
    settings = settings_of(unlearn, run.config)
    key = fingerprint([unlearn, policy, task, settings, run.facts])
    state = find_kept(run, name, key)
    if state is None:
        state = {"log": [], "snapshots": {}, "seconds": 0.0, "diverged": None}
        reset_peak_memory()
        updates, bar = unlearn(policy, task, run.config), tqdm(desc=name, disable=None)
        while not state["diverged"]:
            began = time.perf_counter()
            figures = next(updates, None)
            state["seconds"] += time.perf_counter() - began
            if figures is None:
                break
            show(bar, figures)
            state["log"].append(figures)
            if on_curve(figures):
                state["snapshots"][figures["step"]] = copy.deepcopy(policy.state_dict())
            if any(isinstance(x, float) and not math.isfinite(x) for x in figures.values()):
                state["diverged"] = figures["step"]
            yield figures
        bar.close()
        state["model"] = policy.state_dict()
        save(run, name, key, state)
    else:
        for figures in state["log"]:
            weights = state["snapshots"].get(figures["step"], state["model"])
            policy.load_state_dict(weights)
            yield figures
    policy.load_state_dict(state["model"])
    tell(run, name, state)
    if state["diverged"]:
        print(f"{name}: diverged at update {state['diverged']}; its scores are of what was left")


def on_curve(figures: dict) -> bool:
    """Whether a half, a quarter, an eighth ... of a method's updates are made."""
    step, n_steps = figures["step"], figures.get("steps", 0)
    return step >= 4 and step in {n_steps >> k for k in range(1, 8)}


def show(bar: tqdm, figures: dict) -> None:
    """An update on the progress bar."""
    bar.total = figures.get("steps")
    shown = {key: f"{figures[key]:.3f}" for key in ("attribution", "loss") if key in figures}
    bar.set_postfix(shown, refresh=False)
    bar.update()


def find_kept(run: Run, name: str, key: str | None) -> dict | None:
    """The checkpoint of a stage that need not be made again, in the run's folder, or in that of
    --reuse or --from. Raises InputError for a foreign file."""
    other = run.config.reuse or run.config.from_run
    for folder in [run.folder, *([Path(other)] if other else [])]:
        place = folder / f"{name}.pt"
        state = read_checkpoint(place)
        if state and key and state["key"] == key:
            if place != run.path(name):
                write_checkpoint(run.path(name), state)
            return {**state, "kept": True}
    return None


def save(run: Run, name: str, key: str | None, state: dict) -> None:
    """Add what it cost to the state of a stage, and write its checkpoint."""
    state |= {"key": key, "memory": peak_memory()}
    write_checkpoint(run.path(name), state)
    state["kept"] = False


def tell(run: Run, name: str, state: dict) -> None:
    """Print a line on a stage, and remember what it cost."""
    costs = ("key", "seconds", "memory", "passes", "kept")
    run.stages[name] = {cost: state[cost] for cost in costs if cost in state}
    kept = ", kept from an earlier run" if state["kept"] else ""
    print(f"{name}: {state['seconds']:.0f} s{kept}", flush=True)


def load_weights(model, path: Path, keys: dict):
    """Fill a model from a checkpoint, and freeze it.

    keys: {stage: key} of a finished run, which the checkpoint has to be of. Raises InputError.
    """
    state = read_checkpoint(path)
    if state is None:
        raise InputError(f"{path}: not there; run that run's command again, with this method")
    if path.stem in keys and state["key"] != keys[path.stem]:
        raise InputError(
            f"{path}: not the model that {RESULTS} tells of, as a run with other flags was "
            "begun in this folder and did not end; run its command, or the first one, to the end"
        )
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not a checkpoint of such a model; run it again") from None
    return model.requires_grad_(False)


def earlier_weights(run: Run) -> dict[str, dict]:
    """{method: weights} of the run that --from names, after which this run goes on. Raises
    InputError."""
    if not run.config.from_run:
        return {}
    folder = Path(run.config.from_run)
    keys = read_results(folder)["keys"]
    return {
        name: load_weights(new_gpt(run), folder / f"{name}.pt", keys).state_dict()
        for name in run.methods
    }


def new_gpt(run: Run) -> GPT:
    """An untrained language model of the run's sizes."""
    torch.manual_seed(run.config.seed)
    return GPT(run.gpt_config).to(run.device)


def new_classifier(run: Run) -> OwnerClassifier:
    """An untrained classifier of the run's sizes."""
    torch.manual_seed(run.config.seed)
    return OwnerClassifier(
        vocab_size=run.tokenizer.n_vocab,
        block_size=run.gpt_config.block_size,
        n_embd=run.config.classifier_width,
        n_owners=len(run.split.owners),
        reads=run.config.attribution,
    ).to(run.device)


def load_classifier(run: Run) -> OwnerClassifier:
    """The classifier of a finished run, frozen. Raises InputError."""
    return load_weights(new_classifier(run), run.path("classifier"), run.keys)


def load_models(run: Run) -> dict[str, GPT]:
    """{name: GPT} of a finished run: original, retrained (where there is one) and every method.

    Raises InputError.
    """
    return {name: load_weights(new_gpt(run), run.path(name), run.keys) for name in run.models}
