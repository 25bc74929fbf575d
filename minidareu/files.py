"""Reading texts, writing files whole or not at all, and the one kind of error that users see."""

import json
import math
import os
import re
import uuid
from pathlib import Path


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: what, where, the mend."""

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a name in it may hold a line break


def find(path):
    """A path as given; or, where nothing is there, in the project's folder."""
    in_project = Path(__file__).resolve().parents[1] / path
    return Path(path) if Path(path).exists() or not in_project.exists() else in_project


def read_text(path):
    """Text of a UTF-8 file. Raises InputError."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise InputError(f"{path}: {reason}; give a readable file of JSON lines or CSV") from None


def is_temporary(path):
    """Whether a file is one that `write` had begun when it was killed."""
    return re.search(r"\.[0-9a-f]{32}\.tmp$", path.name) is not None


def write(path, save):
    """Write a file whole or not at all: save(temporary path), then rename. Raises InputError."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # a name for each writer
    try:
        save(temporary)
        os.replace(temporary, path)
    except OSError as e:
        raise InputError(
            f"{path}: can't be written ({e.strerror or e}); make room there, and run the same "
            "command again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text as UTF-8."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value):
    """A JSON value with null in the place of infinities and NaN, for which JSON has no word."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, value):
    """One JSON value, indented."""
    write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def read_lines(path):
    """The JSON values of a file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path, rows):
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows))
