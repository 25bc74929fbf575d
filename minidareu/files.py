"""Files: the one error that users see, rows of JSON lines and CSV, writing whole or not at all."""

import csv
import io
import json
import math
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

LONGEST_TEXT = 100_000  # of a row, in characters; much longer ones crash the tokenizer
# What files of other kinds begin with, and what to do with them.
FOREIGN = {
    b"PAR1": "a Parquet file; export it as JSON lines or CSV",
    b"PK\x03\x04": "an Excel file or a zip archive; save the table in it as CSV (UTF-8)",
    b"\x1f\x8b": "packed by gzip; unpack it",
}


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: what, where, the mend."""

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a name in it may hold a line break


def find(path):
    """A path as given; or, where nothing is there, in the project's folder."""
    in_project = Path(__file__).resolve().parents[1] / path
    return Path(path) if Path(path).exists() or not in_project.exists() else in_project


def read_text(path: str | Path) -> str:
    """Text of a file in UTF-8. Raises InputError."""
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise InputError(f"{path}: {reason}; give a readable file of JSON lines or CSV") from None
    for mark, kind in FOREIGN.items():
        if content.startswith(mark):
            raise InputError(f"{path}: is {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None


def read_rows(
    path: str | Path, keys: tuple, lists: tuple = (), known: list | None = None
) -> list[tuple[int, dict]]:
    """(line number, dict) of each row of a file: JSON lines, or CSV.

    keys: those that every row must have; lists: those whose cell in a CSV file is a JSON list;
    known: all that there may be. Raises InputError.
    """
    rows: list = list(csv_rows(path) if is_csv(path) else json_rows(path))
    if not rows:
        form = "a header, and one row a line" if is_csv(path) else "one JSON object a line"
        raise InputError(f"{path}: holds no record; write {form}")
    for line, row in rows:
        where = f"{path}:{line}"
        if not isinstance(row, dict):
            example = ", ".join(f'"{key}": ...' for key in keys)
            raise InputError(f"{where}: not a JSON object; write {{{example}}}")
        for key in keys:
            if key not in row:
                alike = [repr(name) for name in row if name.strip().lower() == key]
                mend = f"rename {alike[0]}" if alike else "add it as a non-empty string"
                raise InputError(f"{where}: key {key!r} is missing; {mend}")
        for key in row:
            if known and key not in known:
                raise InputError(
                    f"{where}: unknown key {key!r}; remove it or use one of {', '.join(known)}"
                )
        for key in lists:
            if is_csv(path) and key in row:
                row[key] = read_list(row[key], f"{where}: {key!r}")
    return rows


def check_texts(row: dict, where: str, lists: tuple = ()) -> None:
    """Raise InputError for a row whose values are no texts or, by these keys, no lists of texts."""
    for key, value in row.items():
        if value is None:
            raise InputError(f"{where}: {key!r} is null; leave it out, or give a value")
        if key in lists and not isinstance(value, list):
            raise InputError(f"{where}: {key!r} is not a list; give a list of non-empty strings")
        for text in value if key in lists else [value]:
            fault = fault_of(text)
            if fault:
                raise InputError(f"{where}: {key!r} {fault}")


def fault_of(text: object) -> str | None:
    """What is wrong with a value that should be a text, and the mend."""
    if not isinstance(text, str):
        return "is not a string; give a non-empty string"
    if not text.strip():
        return "is empty; give a non-empty string"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "holds half of a surrogate pair; write the whole character"
    if len(text) > LONGEST_TEXT:
        return f"is too long ({len(text):,} characters, {LONGEST_TEXT:,} at most); make rows of it"
    return None


def read_list(cell: str, where: str) -> list:
    """A JSON list in a cell of a table. Raises InputError, whose message `where` begins."""
    with suppress(ValueError, RecursionError):
        value = json.loads(cell)
        if isinstance(value, list):
            return value
    raise InputError(f'{where} is not a list; give one of JSON, such as ["one", "two"]')


def is_csv(path: str | Path) -> bool:
    """Whether a file is CSV, by its name: mine.csv, mine.tsv."""
    return str(path).lower().endswith((".csv", ".tsv"))


def repeated(names):
    """The names that stand more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def without_repeats(pairs):
    """The keys and values of a JSON object as a dict. Raises ValueError for a key that repeats."""
    for key in repeated(key for key, _ in pairs):
        raise ValueError(f"key {key!r} stands twice")
    return dict(pairs)


def json_rows(path: str | Path) -> Iterator[tuple[int, object]]:
    """JSON lines -> (line number, value) of each line that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=without_repeats)
            except (ValueError, RecursionError) as e:
                raise InputError(
                    f"{path}:{number}: broken JSON ({e}); write one JSON object a line"
                ) from None


def csv_rows(path: str | Path) -> Iterator[tuple[int, dict]]:
    """CSV with a header -> (number of a row's first line, dict of the cells that are not empty).

    Between cells stand commas, semicolons or tabs: those of which the header has most.
    """
    csv.field_size_limit(2**31 - 1)
    text = read_text(path)
    first_line, header_line = 1, text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=header_line.count)
    mend = f"quote a text that holds {separator!r}, a quote or a line break"
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        header = next((row for row in rows if row), [])
        for name in repeated(header):
            raise InputError(f"{path}:1: the header names {name!r} twice; rename a column")
        first_line = rows.line_num + 1
        for cells in rows:
            if cells and len(cells) != len(header):
                counts = f"has {len(cells)} cells, and the header {len(header)}"
                raise InputError(f"{path}:{first_line}: {counts}; {mend}")
            if cells:
                named = zip(header, cells, strict=True)
                yield first_line, {name: cell for name, cell in named if cell}
            first_line = rows.line_num + 1
    except csv.Error as e:
        raise InputError(f"{path}:{first_line}: broken CSV ({e}); {mend}") from None


def is_temporary(path):
    """Whether a file is one that `write` had begun when it was killed."""
    return re.search(r"\.[0-9a-f]{32}\.tmp$", path.name) is not None


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: save(temporary path), then rename. Raises InputError.

    A link stays: what it points to is written.
    """
    try:
        path = path.resolve()
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # for each writer
        try:
            save(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        reason = getattr(e, "strerror", None) or e
        raise InputError(
            f"{path}: can't be written ({reason}); make room or a folder there, or choose another "
            "place, and run the same command again"
        ) from None


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
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]  # U+2028 ends no line


def write_lines(path, rows):
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows))
