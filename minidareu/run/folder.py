"""A run's folder: its lock, its files, and what it says of itself."""

import io
import json
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..files import InputError, is_temporary, read_lines, write, write_json
from .flags import Config

IDENTITY = "experiment.json"
RESULTS = "results.json"
LOG = "log.jsonl"
SAMPLES = "samples.jsonl"
FIGURE = "figure.png"
LOCK = ".lock"
REPORT = "report.html"
LLM_FILE = "llm.json"  # of a run on a pretrained model: its own options
FILES = [IDENTITY, LOG, SAMPLES, RESULTS, REPORT, FIGURE, LLM_FILE]
FILES += ["audit.json", "audit.md", "attacks.png"]


def read_object(path: Path, keys: list[str]) -> dict:
    """A JSON object of a run's folder that has these keys. Raises InputError."""
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and value.keys() >= set(keys):
            return value
    raise InputError(f"{path}: not there, or not of a run; name the --out folder of a finished one")


def read_results(folder: str | Path) -> dict:
    """results.json of a finished run. Raises InputError."""
    return read_object(Path(folder) / RESULTS, ["config", "models", "keys", "paths"])


def read_config(folder: str | Path) -> Config:
    """The Config of a finished run, also from another working directory. Raises InputError."""
    results = read_results(folder)
    try:
        config = Config(**results["config"])
    except TypeError:
        raise InputError(f"{folder}: of another version; run its command again") from None
    for flag, place in results["paths"].items():
        if not Path(getattr(config, flag)).exists():
            setattr(config, flag, place)
    return config


def read_run(folder: Path) -> tuple[dict, list[dict], list[dict]]:
    """Results, log and samples of a finished run. Raises InputError."""
    return read_results(folder), read_lines(folder / LOG), read_lines(folder / SAMPLES)


def read_identity(folder: str | Path) -> dict:
    """What a run's folder says that it is of. Raises InputError."""
    return read_object(Path(folder) / IDENTITY, ["data", "forget", "seed"])


@contextmanager
def open_folder(folder: Path, identity: dict, overwrite: bool):
    """Make a run's folder, or enter the one that holds the same experiment, and lock it.

    Raises InputError, as where another run is at work in it.
    """
    lock = FileLock(folder / LOCK)
    check_folder(folder, identity, overwrite)
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
        check_folder(folder, identity, overwrite)  # again: another run may have been quicker
        old = [path for path in folder.iterdir() if is_temporary(path)]  # of a run that was killed
        if overwrite:
            old += [folder / name for name in FILES]
            old += [path for path in folder.glob("*.pt") if is_checkpoint(path)]
        for path in old:
            path.unlink(missing_ok=True)
        write_json(folder / IDENTITY, identity)
        yield
    finally:
        lock.release()


def check_folder(folder: Path, identity: dict, overwrite: bool) -> None:
    """Raise InputError where a folder holds anything but the same experiment."""
    mark = folder / IDENTITY
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if overwrite:
        foreign = [] if mark.exists() else [name for name in FILES if name in names]
        if foreign:
            raise InputError(
                f"--out {folder}: holds {foreign[0]}, which is not of a run; choose another folder"
            )
        return
    if all(name == LOCK or is_temporary(folder / name) for name in names):
        return
    other = "files that are not of a run"
    with suppress(InputError):
        if read_identity(folder) == identity:
            return
        other = "another experiment (data, forget owners or seed)"
    raise InputError(f"--out {folder}: holds {other}; choose another folder, or add --overwrite")


def write_checkpoint(path: Path, state: dict) -> None:
    whole = io.BytesIO()  # so that a full disk is an OSError; torch.save raises its own
    torch.save(state, whole)
    write(path, lambda temporary: temporary.write_bytes(whole.getbuffer()))


def read_checkpoint(path: Path) -> dict | None:
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


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of ours."""
    try:
        return read_checkpoint(path) is not None
    except InputError:
        return False
