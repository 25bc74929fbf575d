"""The stages of a run in its folder, and the one rule of what is kept.

A stage (original model, retrained model, classifiers, each method) is kept while its key is the
same: a digest of the flags, the data, the earlier stages and the source that it runs through.
Scores are never kept.
"""

import hashlib
import io
import json
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..attribution import OwnerClassifier
from ..data import load_records
from ..files import InputError, is_temporary, write, write_json
from ..model import GPT
from ..pretrain import train_lm
from ..tokenizer import train_tokenizer
from .cost import peak_memory, reset_peak_memory
from .flags import flags_of
from .folder import FILES, IDENTITY, LOCK, RESULTS, TOKENIZER
from .prepare import Run
from .source import source_digest
from .vocabulary import write_tokenizer

MEND = "run train.py again, with that run's flags"


@contextmanager
def open_folder(run: Run):
    """Make the run's folder, or enter the one that holds the same experiment, and lock it.

    Raises InputError, as where another run is at work in it.
    """
    folder, lock = run.folder, FileLock(run.folder / LOCK)
    check_folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"--out {folder}: another run is at work in it; wait for its end, or choose another "
            "folder"
        ) from None
    except OSError as e:
        raise InputError(f"--out {folder}: {e}; choose a folder that can be written") from None
    try:
        check_folder(run)  # again: another run may have been quicker
        old = [path for path in folder.iterdir() if is_temporary(path)]  # of a run that was killed
        if run.config.overwrite:
            old += [folder / name for name in FILES] + [
                path for path in folder.glob("*.pt") if is_checkpoint(path)
            ]
        for path in old:
            path.unlink(missing_ok=True)
        write_json(folder / IDENTITY, run.identity)
        if run.tokenizer_key:
            write_tokenizer(folder / TOKENIZER, run.tokenizer_key, run.tokenizer)
        yield
    finally:
        lock.release()


def check_folder(run: Run):
    """Raise InputError where the run's folder holds anything but the same experiment."""
    folder, mark = run.folder, run.folder / IDENTITY
    if run.config.overwrite:
        foreign = [name for name in FILES if (folder / name).exists() and not mark.exists()]
        if foreign:
            raise InputError(
                f"--out {folder}: holds {foreign[0]}, which is not of a run; choose another folder"
            )
        return
    try:
        files = folder.iterdir() if folder.exists() else []
        others = [path for path in files if path.name != LOCK and not is_temporary(path)]
        if others and json.loads(mark.read_text(encoding="utf-8")) != run.identity:
            raise InputError(
                f"--out {folder}: holds another experiment (data, forget owners or seed); "
                "choose another folder, or add --overwrite"
            )
    except FileNotFoundError:
        raise InputError(
            f"--out {folder}: holds files that are not of a run; "
            "choose another folder, or add --overwrite"
        ) from None
    except (OSError, json.JSONDecodeError) as e:
        raise InputError(
            f"--out {folder}: {e}; choose another folder, or add --overwrite to one that can be "
            "written"
        ) from None


def stage_key(*facts):
    """A digest of all that a stage depends on: flags, data, keys of earlier stages, source.

    None where one of the facts is None: such a stage is never kept.
    """
    if None in facts:
        return None
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def pretrain_key(config, rows):
    """The key of a language model that is trained on these rows, as `Run.ended` gives them."""
    source = source_digest(train_lm, train_tokenizer, load_records)
    return stage_key(flags_of(config, ["data", "model"]), rows, source)


def stage(path, key, make, reuse=None):
    """The checkpoint at `path`, or of that name in the folder `reuse`, if it has the same key;
    otherwise what `make` returns, a dict, which is saved. See `keep`."""
    return find_kept(path, key, reuse) or keep(path, key, timed(make))


def find_kept(path, key, reuse=None):
    """The checkpoint that `stage` would not make again; None where there is none.

    Raises InputError for a foreign file at `path`.
    """
    for place in [path, *([Path(reuse) / path.name] if reuse else [])]:
        state = read_checkpoint(place)
        if state and key is not None and state["key"] == key:
            if place != path:
                save_checkpoint(path, state)
            return {**state, "kept": True}
    return None


def timed(make):
    """What `make` returns, a dict, with `seconds` and `memory`, megabytes at the peak."""
    reset_peak_memory()
    began = time.perf_counter()
    state = make()
    return {"seconds": time.perf_counter() - began, "memory": peak_memory(), **state}


def keep(path, key, state):
    """Save what was made, with its key; it has `kept` then, False."""
    save_checkpoint(path, {"key": key, **state})
    return {"key": key, **state, "kept": False}


def save_checkpoint(path, state):
    whole = io.BytesIO()  # so that a full disk is an OSError; torch.save raises its own
    torch.save(state, whole)
    write(path, lambda temporary: temporary.write_bytes(whole.getbuffer()))


def read_checkpoint(path):
    """A checkpoint of ours; None where there is none. Nothing in the file is run.

    Raises InputError for one that is cut short or foreign.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises a dozen kinds
        state = None
    if not isinstance(state, dict) or not {"key", "seconds"} <= state.keys():
        raise InputError(
            f"{path}: cut short, or not a checkpoint of this program; "
            "delete it, or put back what was there"
        )
    return state


def check_key(path, key, mend):
    """Raise InputError for a checkpoint that is there and has another key."""
    state = read_checkpoint(path)
    if state and state["key"] != key:
        raise InputError(
            f"{path}: is of other data, another split, other flags or other code; {mend}"
        )


def load_weights(model, path, part="model", keys=None, mend=MEND):
    """Fill a model, on its device, from a `part` of a checkpoint; it is frozen.

    keys: {stage: key} of a finished run, which the checkpoint has to be of. Raises InputError that
    ends in `mend`.
    """
    state, keys = read_checkpoint(path), keys or {}
    if state is None:
        raise InputError(f"{path}: not there; {mend}")
    if path.stem in keys and state["key"] != keys[path.stem]:
        raise InputError(
            f"{path}: not the model that {RESULTS} tells of, as a run with other flags was "
            "begun in this folder and did not end; run its command, or the first one, to the end"
        )
    try:
        model.load_state_dict(state[part])
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not a checkpoint of such a model; {mend}") from None
    return model.requires_grad_(False)


def is_checkpoint(path):
    """Whether a file is a checkpoint of ours."""
    try:
        return read_checkpoint(path) is not None
    except InputError:
        return False


def load_model(run: Run, path, keys=None, mend=MEND) -> GPT:
    """A language model of the run's sizes from a checkpoint, frozen. Raises InputError."""
    return load_weights(GPT(run.gpt_config).to(run.device), path, keys=keys, mend=mend)


def new_classifier(run: Run) -> OwnerClassifier:
    """An untrained classifier of the run's sizes."""
    torch.manual_seed(run.config.seed)
    return OwnerClassifier(
        vocab_size=run.tokenizer.n_vocab,
        block_size=run.gpt_config.block_size,
        n_layer=run.config.classifier_layers,
        n_embd=run.config.classifier_width,
        n_owners=len(run.split.owners),
        reads=run.config.attribution,
    ).to(run.device)


def load_classifier(run: Run) -> OwnerClassifier:
    """The classifier of a finished run, frozen. Raises InputError."""
    return load_weights(new_classifier(run), run.path("classifier"), "classifier", run.keys)


def load_models(run: Run) -> dict[str, GPT]:
    """{name: GPT} of a finished run: original, retrained (where there is one) and every method.

    Raises InputError.
    """
    names = ["original", *(["retrained"] if run.config.retrained else []), *run.methods]
    return {name: load_model(run, run.path(name), run.keys) for name in names}
