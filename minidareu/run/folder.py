"""A run's folder: the names of its files, and what it says of itself."""

import json
from pathlib import Path

from ..files import InputError
from .flags import Config

IDENTITY = "experiment.json"
RESULTS = "results.json"
LOG = "log.jsonl"
SAMPLES = "samples.jsonl"
FIGURE = "figure.png"
LOCK = ".lock"
REPORT = "report.html"
TOKENIZER = "tokenizer.json"
LLM_FILE = "llm.json"  # of a run on a pretrained model: its own options
FILES = [IDENTITY, LOG, SAMPLES, RESULTS, REPORT, FIGURE, TOKENIZER, LLM_FILE]
FILES += ["audit.json", "audit.md", "attacks.png"]
PATH_FLAGS = ("data", "from_run", "reuse")


def read_config(folder: str | Path) -> Config:
    """The Config of a finished run. Raises InputError."""
    path = Path(folder) / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        config = Config(**results["config"])
        for flag, place in results.get("paths", {}).items():
            given = Path(getattr(config, flag))
            if not given.is_absolute() and given.resolve() != Path(place) and Path(place).exists():
                setattr(config, flag, place)  # the run was made from another working directory
        return config
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: not there, or not of a finished run; name the --out folder of one"
        ) from None


def read_keys(folder: str | Path) -> dict[str, str | None]:
    """{stage: key} of the models that a finished run's scores are of."""
    results = json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
    return results.get("keys", {})


def read_identity(folder: str | Path) -> dict:
    """What a run's folder says that it is of. Raises InputError."""
    path = Path(folder) / IDENTITY
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        keys = ["data", "forget", "seed", *(["requests"] if "requests" in identity else [])]
        return {key: identity[key] for key in keys}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: not there, or not of a run; name the --out folder of one"
        ) from None
