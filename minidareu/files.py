"""Reading texts, writing files whole or not at all, and the one kind of error that users see."""

import json
import os
from pathlib import Path


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: what, where, the mend."""

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a name in it may hold a line break


def read_text(path):
    """Text of a UTF-8 file. Raises InputError."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise InputError(f"{path}: {reason}; give a readable file of JSON lines or CSV") from None


def write(path, save):
    """Write a file whole or not at all: save(temporary path), then rename."""
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    os.replace(temporary, path)


def write_text(path, text):
    """Write a text as UTF-8."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path, value):
    """One JSON value, indented."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_lines(path, rows):
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
