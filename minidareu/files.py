"""Files: the one error that users see, rows of JSON lines and CSV, writing whole or not at all."""

import ast
import codecs
import csv
import errno
import gzip
import io
import json
import math
import os
import re
import sys
import tempfile
import tokenize
import uuid
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

LONGEST_CELL = 2**31 - 1  # of a CSV file, in characters
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}  # of the cells of a CSV file
# What files of other kinds begin with, and what to do with them.
FOREIGN = {
    b"PAR1": "a Parquet file; export it as JSON lines or CSV",
    b"PK\x03\x04": "an Excel file or a zip archive; save the table in it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the table in it as CSV (UTF-8)",
    b"SQLite format 3": "a database; export its table as JSON lines or CSV",
    codecs.BOM_UTF32_LE: "UTF-32; save the file as UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32; save the file as UTF-8",
}
MENDS = {
    errno.ENOSPC: "make room there, and run the same command again",
    errno.ENOENT: "make its folder, or name another place",
    errno.ENOTDIR: "make its folder, or name another place",
}
LONGEST_TEXT = 100_000  # of a row, in characters; much longer ones crash the tokenizer


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: what, where, the mend."""

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a name in it may hold a line break


def find(path):
    """A path as given; or, where nothing is there, in the project's folder."""
    in_project = Path(__file__).resolve().parents[1] / path
    return Path(path) if Path(path).exists() or not in_project.exists() else in_project


def note(text: str) -> None:
    """Say how a file was read that is not quite as it should be."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def read_text(path: str | Path) -> str:
    """Text of a file: UTF-8, UTF-16 that has its mark, or either in gzip. Raises InputError."""
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise InputError(f"{path}: {reason}; give a readable file of JSON lines or CSV") from None
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"{path}: a gzip file that is cut short; make it again") from None
        note(f"{path}: is unpacked from gzip")
    for mark, kind in FOREIGN.items():
        if content.startswith(mark):
            raise InputError(f"{path}: is {kind}")
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
        note(f"{path}: is read as UTF-16")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as e:
        kind = encoding.upper().removesuffix("-SIG")
        raise InputError(f"{path}: byte {e.start} is not {kind}; save the file as UTF-8") from None


def read_rows(
    path: str | Path, keys: tuple, lists: tuple = (), known: list | None = None
) -> list[tuple[int, dict]]:
    """(line number, dict) of each row of a file: JSON lines, or CSV.

    keys: those that every row must have; lists: those whose cell in a CSV file is a list; known:
    all that there may be. Raises InputError.
    """
    rows: list = list(csv_rows(path, known or keys) if is_csv(path) else json_rows(path))
    if not rows:
        form = "a header, and one row a line" if is_csv(path) else "one JSON object a line"
        raise InputError(f"{path}: holds no record; write {form}")
    for line, row in rows:
        if not isinstance(row, dict):
            example = ", ".join(f'"{key}": ...' for key in keys)
            raise InputError(f"{path}:{line}: not a JSON object; write {{{example}}}")
        for key in keys:
            if key not in row:
                alike = [repr(name) for name in row if tidy(name) == key]
                mend = f"rename {alike[0]}" if alike else "add it as a non-empty string"
                raise InputError(f"{path}:{line}: key {key!r} is missing; {mend}")
        for key in row:
            if known and key not in known:
                raise InputError(
                    f"{path}:{line}: unknown key {key!r}; remove it or use one of "
                    + ", ".join(known)
                )
        for key in lists:
            if is_csv(path) and key in row:
                row[key] = read_list(row[key], f"{path}:{line}: {key!r}")
    return rows


def check_texts(row: dict, where: str, lists: tuple = ()) -> None:
    """Raise InputError for a row whose values are no texts or, by these keys, no lists of texts."""
    for key, value in row.items():
        if key in lists and not isinstance(value, list):
            kind = "null; leave it out, or" if value is None else "not a list;"
            raise InputError(f"{where}: {key!r} is {kind} give a list of non-empty strings")
        for text in value if key in lists else [value]:
            check_text(where, key, text)


def check_text(where: str, key: str, text: object) -> None:
    """Raise InputError for a value of a row that is no text, or one that can't be used."""
    if text is None:
        raise InputError(
            f"{where}: {key!r} is not a string but null; give a non-empty string, or leave out a "
            "key that may be absent"
        )
    if not isinstance(text, str):
        raise InputError(f"{where}: {key!r} is not a string; give a non-empty string")
    if not text.strip():
        raise InputError(f"{where}: {key!r} is empty; give a non-empty string")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(
            f"{where}: {key!r} holds half of a surrogate pair; write the whole character"
        )
    if len(text) > LONGEST_TEXT:
        raise InputError(
            f"{where}: row too long: {key!r} has {len(text):,} characters, and the most are "
            f"{LONGEST_TEXT:,}; shorten it, or make several rows of it"
        )


def read_list(cell: str, where: str) -> list:
    """A list in a cell of a table, as JSON or as Python prints it.

    Raises InputError, whose message `where` begins.
    """
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = python_list(cell)
    if not isinstance(value, list):
        raise InputError(
            f'{where} is not a list; give a JSON list of strings, such as ["one", "two"]'
        )
    return value


def python_list(cell):
    """A list as Python prints it; None for all else.

    So is what NumPy prints, ['one' 'two'] without commas, which Python would read as one string.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash in a text, which Python warns of
            value = ast.literal_eval(cell)
        tokens = list(tokenize.generate_tokens(io.StringIO(cell).readline))
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    n_strings = sum(token.type == tokenize.STRING for token in tokens)
    return value if isinstance(value, list) and n_strings == len(value) else None


def is_csv(path: str | Path) -> bool:
    """Whether a file is CSV, by its name: mine.csv, mine.tsv, mine.csv.gz."""
    return re.search(r"\.[ct]sv(\.gz)?$", str(path), re.IGNORECASE) is not None


def tidy(name: str) -> str:
    """The name of a column or key without what a spreadsheet adds: blanks, capitals."""
    return name.strip("\ufeff \t\xa0").lower()


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


def split_header(path: str | Path, text: str, known) -> tuple[list[str], str, str, int]:
    """A CSV text -> names of its columns, separator of its cells, its rows, lines before these.

    Another separator than a comma, and names in other spellings, are taken where they give columns
    that are `known`; a note says so.
    """
    line, n_before, said = "", 0, []
    while text and re.fullmatch(r"\s*|sep=.\s*", line, re.IGNORECASE):
        said += [line[4]] if line.strip() else []  # Excel's own line, sep=;
        line, text = re.findall(r"(?s)([^\r\n]*(?:\r\n|\r|\n|\Z))(.*)", text)[0]
        n_before += 1
    names = {
        separator: next(csv.reader([line], delimiter=separator), [])
        for separator in [*said, *SEPARATORS]
        if separator in SEPARATORS
    }
    fitting = {s: sum(tidy(name) in known for name in header) for s, header in names.items()}
    separator = max(fitting, key=lambda s: fitting[s])
    separator = separator if fitting[separator] > 1 else ","
    header = [tidy(name) if tidy(name) in known else name for name in names[separator]]
    if separator != ",":
        note(f"{path}: is read with {SEPARATORS[separator]} between its cells")
    for name, column in zip(names[separator], header, strict=True):
        if name != column:
            note(f"{path}: column {name!r} is read as {column!r}")
    for name in repeated(header):
        raise InputError(
            f"{path}:{n_before}: the header names {name!r} twice; remove or rename a column"
        )
    return header, separator, text, n_before


def csv_rows(path: str | Path, known) -> Iterator[tuple[int, dict]]:
    """CSV with a header -> (number of a row's first line, dict of the cells that are not empty)."""
    csv.field_size_limit(LONGEST_CELL)
    first_line, separator = 1, ","
    try:
        header, separator, text, n_before = split_header(path, read_text(path), known)
        first_line = n_before + 1
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        for cells in rows:
            if cells and len(cells) != len(header):
                raise InputError(
                    f"{path}:{first_line}: has {len(cells)} cells, and the header {len(header)}; "
                    f"quote a text that holds {SEPARATORS[separator]}"
                )
            if cells:
                named = zip(header, cells, strict=True)
                yield first_line, {name: cell for name, cell in named if cell}
            first_line = n_before + rows.line_num + 1
    except csv.Error as e:
        mend = f"quote a text that holds {SEPARATORS[separator]}, a quote or a line break"
        if "NUL" in str(e):  # so Python 3.10 says
            mend = "remove this character, which no text has"
        raise InputError(f"{path}:{first_line}: broken CSV ({e}); {mend}") from None


def is_temporary(path):
    """Whether a file is one that `write` had begun when it was killed."""
    return re.search(r"\.[0-9a-f]{32}\.tmp$", path.name) is not None


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: save(temporary path), then rename. Raises InputError.

    A link stays: what it points to is written. A pipe or a device is written into.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name a file")
        if is_plain(path):
            path = path.resolve()
            temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # for each writer
            try:
                save(temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder) / "whole")
            with open(path, "ab") as target:
                target.write((Path(folder) / "whole").read_bytes())
    except OSError as e:
        mend = MENDS.get(e.errno or 0, "name a place that can be written")
        raise InputError(f"{path}: can't be written ({e.strerror or e}); {mend}") from None


def is_plain(path: Path) -> bool:
    """Whether a path is one of a plain file, there or to be: not a pipe, not a device."""
    system = path.absolute().as_posix().startswith(("/dev/", "/proc/"))
    return not system and (path.is_file() or not path.exists())


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
