"""Tables that users write: JSON lines, or CSV with a header."""

import ast
import csv
import io
import json
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .files import InputError, read_text

LONGEST_CELL = 2**31 - 1  # of a CSV file, in characters


def read_rows(path: str | Path, keys: tuple[str, ...]) -> list[tuple[int, dict]]:
    """(line number, dict) of each row of a file: JSON lines, or CSV.

    Raises InputError, as for a row without one of `keys`.
    """
    rows: list = list(csv_rows(path) if is_csv(path) else json_rows(path))
    if not rows:
        form = "a header, and one row a line" if is_csv(path) else "one JSON object a line"
        raise InputError(f"{path}: holds no record; write {form}")
    for line, row in rows:
        if not isinstance(row, dict):
            example = ", ".join(f'"{key}": ...' for key in keys)
            raise InputError(f"{path}:{line}: not a JSON object; write {{{example}}}")
        for key in keys:
            if key not in row:
                raise InputError(
                    f"{path}:{line}: key {key!r} is missing; add it as a non-empty string"
                )
    return rows


def read_list(cell: str) -> list | None:
    """A list in a cell of a table, as JSON or as Python prints it; None for all else."""
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = python_list(cell)
    return value if isinstance(value, list) else None


def python_list(cell):
    """A list as Python prints it; None for all else.

    So is what NumPy prints, ['one' 'two'] without commas, which Python would read as one string.
    """
    try:
        value = ast.literal_eval(cell)
        tokens = list(tokenize.generate_tokens(io.StringIO(cell).readline))
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    n_strings = sum(token.type == tokenize.STRING for token in tokens)
    return value if isinstance(value, list) and n_strings == len(value) else None


def is_csv(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".csv"


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
    """CSV with a header -> (number of a row's first line, dict of the cells that are not empty)."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    first_line, header = 1, None
    try:
        for cells in reader:
            if header is None:
                header = cells
                for name in repeated(header):
                    raise InputError(
                        f"{path}:{first_line}: the header names {name!r} twice; "
                        "remove or rename a column"
                    )
            elif cells and len(cells) != len(header):
                raise InputError(
                    f"{path}:{first_line}: has {len(cells)} cells, and the header {len(header)}; "
                    "quote a text that holds a comma"
                )
            elif cells:
                named = zip(header, cells, strict=True)
                yield first_line, {name: cell for name, cell in named if cell}
            first_line = reader.line_num + 1
    except csv.Error as e:
        raise InputError(
            f"{path}:{first_line}: broken CSV ({e}); "
            "quote a text that holds a comma, a quote or a line break"
        ) from None
