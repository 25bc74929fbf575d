"""Owner datasets: reading and checking them, the forget / retain / test split, and batches of similar length."""

import csv
import difflib
import io
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

KEYS = ["owner", "prompt", "response", "split", "paraphrase", "perturbed"]


class InputError(ValueError):
    """Something the user gave can't be used; the message is one line that says what, where and how to mend it."""

    def __init__(self, message):
        super().__init__(" ".join(message.split()))  # a name in it may hold a line break


@dataclass(frozen=True)
class Record:
    """A text of an owner: a prompt and its response. A `test` row asks in unseen words and is never trained on."""
    owner: str
    prompt: str
    response: str
    split: str = "train"
    paraphrase: str | None = None
    perturbed: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)  # of its file, counted from 1


@dataclass(frozen=True)
class Split:
    """Rows to train on, of the owners to forget and of all others, and rows never trained on: the others' test rows, the forget owners'."""
    owners: list[str]
    forget_owners: list[str]
    forget: list[Record]
    retain: list[Record]
    test: list[Record]
    unseen: list[Record]


def load_records(path):
    """Read JSON lines, or CSV where the file's name ends so. Raises InputError that names the file, the line and the mend."""
    records = []
    for line, row in read_rows(path, ("owner", "prompt", "response")):
        if is_csv(path) and "perturbed" in row:
            try:
                row["perturbed"] = json.loads(row["perturbed"])
            except (ValueError, RecursionError):
                raise InputError(f"{path}:{line}: 'perturbed' is not a list; give a JSON list of strings, such as [\"one\", \"two\"]") from None
        records.append(parse_record(row, f"{path}:{line}", line))
    trained = {r.owner for r in records if r.split == "train"}
    for r in records:
        if r.owner not in trained:
            raise InputError(f"{path}:{r.line}: owner {r.owner!r} has test rows alone; add a train row")
    return records


def read_rows(path, keys):
    """(number of its line, dict) of each row of a file: JSON lines, or CSV. Raises InputError, as for a row without one of `keys`."""
    rows = list((csv_rows if is_csv(path) else json_rows)(path))
    if not rows:
        raise InputError(f"{path}: holds no record; write {'a header, and one row a line' if is_csv(path) else 'one JSON object a line'}")
    for line, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: not a JSON object; write {{{', '.join(f'{json.dumps(key)}: ...' for key in keys)}}}")
        for key in keys:
            if key not in row:
                raise InputError(f"{path}:{line}: key {key!r} is missing; add it as a non-empty string")
    return rows


def is_csv(path):
    return Path(path).suffix.lower() == ".csv"


def read_text(path):
    """Raises InputError for a file that can't be read or is not UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        raise InputError(f"{path}: {(getattr(e, 'strerror', None) or str(e)).lower()}; give a readable file of JSON lines or CSV") from None


def json_rows(path):
    """JSON lines -> (line number, value) of each line that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as e:
                raise InputError(f"{path}:{number}: broken JSON ({e}); write one JSON object a line") from None


def csv_rows(path):
    """CSV with a header -> (number of the line that a row begins on, dict of the cells that are not empty)."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    begins, header = 1, None
    try:
        for cells in reader:
            if header is None:
                header = cells
            elif cells and len(cells) != len(header):
                raise InputError(f"{path}:{begins}: has {len(cells)} cells, and the header {len(header)}; quote a text that holds a comma")
            elif cells:
                yield begins, {name: cell for name, cell in zip(header, cells) if cell}
            begins = reader.line_num + 1
    except csv.Error as e:
        raise InputError(f"{path}:{begins}: broken CSV ({e}); quote a text that holds a comma, a quote or a line break") from None


def parse_record(row, where, line):
    """One row of a dataset -> Record. `where` (file and line number) begins the message of an InputError."""
    for key in row:
        if key not in KEYS:
            raise InputError(f"{where}: unknown key {key!r}; remove it or use one of {', '.join(KEYS)}")
    perturbed = row.get("perturbed", [])
    if not isinstance(perturbed, list):
        raise InputError(f"{where}: 'perturbed' is not a list; give a list of non-empty strings")
    texts = [item for item in row.items() if item[0] != "perturbed"] + [("perturbed", text) for text in perturbed]
    for key, text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: {key!r} is {'empty' if isinstance(text, str) else 'not a string'}; give a non-empty string")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"{where}: {key!r} holds half of a surrogate pair; write the whole character")
    if row.get("split", "train") not in ("train", "test"):
        raise InputError(f"{where}: split is {row['split']!r}; use 'train' or 'test'")
    return Record(**{**row, "perturbed": tuple(perturbed)}, line=line)


def pick_owners(owners, forget, n_forget, fraction, seed, forgotten=()):
    """Names of the owners to forget, in the order of `owners`, beside those already `forgotten`. Raises InputError.

    forget: names, comma-separated; where it is None, the last `fraction` of the owners; where that is None, `n_forget` of
    them, drawn by seed (None: 2, or 1 of two).
    """
    for name in forgotten:
        if forget is not None and name in [forget, *map(str.strip, forget.split(","))]:
            raise InputError(f"--forget: {name!r} is forgotten already, by the run that --from names; name others")
    owners = [name for name in owners if name not in forgotten]
    if len(owners) < 2 and forgotten:
        raise InputError(f"--from: forgot all owners but {owners[0]!r} already; one has to be left")
    if len(owners) < 2:
        raise InputError(f"--data: all rows are of one owner, {owners[0]!r}; give at least 2, one to forget and one to retain")
    if forget is not None:
        # A name may hold a comma itself.
        names = [forget] if forget in owners else [name.strip() for name in forget.split(",") if name.strip()]
    elif fraction is not None:
        names = owners[-max(1, round(fraction * len(owners))):]
    else:
        names = random.Random(seed).sample(owners, min(2, len(owners) - 1) if n_forget is None else min(n_forget, len(owners)))
    for name in names:
        if name not in owners:
            near = difflib.get_close_matches(name, owners, n=3, cutoff=0)
            raise InputError(f"--forget: no owner is called {name!r}; the nearest names are {', '.join(map(repr, near))}")
    names = sorted(set(names), key=owners.index)
    if not names:
        raise InputError("--forget: no owner is forgotten; name at least one")
    if len(names) == len(owners):
        raise InputError(f"--forget: all {len(owners)} owners are forgotten; leave at least one to retain")
    return names


def split_records(records, names, test_fraction, seed):
    """The split that forgets the owners of these names. Raises InputError.

    Where no retain owner has a test row, `test_fraction` of their rows are held out, by seed.
    """
    train = [r for r in records if r.split == "train"]
    retain = [r for r in train if r.owner not in names]
    test = [r for r in records if r.split == "test" and r.owner not in names]
    if not test:
        if len(retain) < 2:
            raise InputError("--data: the retain owners have one row, and none to test on; add a row, or one of split 'test'")
        test = random.Random(seed).sample(retain, min(max(1, round(test_fraction * len(retain))), len(retain) - 1))
        held_out = set(map(id, test))
        retain = [r for r in retain if id(r) not in held_out]
    unseen = [r for r in records if r.split == "test" and r.owner in names]
    owners = list(dict.fromkeys(r.owner for r in records))
    return Split(owners, names, [r for r in train if r.owner in names], retain, test, unseen)


def forget_more(split, names):
    """The split after one more request: the rows of these owners change sides, and what was held out stays so. Raises InputError."""
    names = [name for name in split.owners if name in split.forget_owners + names]

    def part(rows, forgotten):
        return [r for r in rows if (r.owner in names) == forgotten]

    more = Split(split.owners, names, split.forget + part(split.retain, True), part(split.retain, False), part(split.test, False),
                 split.unseen + part(split.test, True))
    if not (more.retain and more.test):
        raise InputError("--forget: no row of another owner is left to train or to test on; leave one at least")
    return more


def layout(prompt, response):
    """How a record is written for a model. The space in front gives a first word the same ids as inside a sentence."""
    return f" {prompt}\n", f" {response}"


def encode(tokenizer, record, response=None):
    """Record -> (prompt ids, response ids); `response`, where given, takes the place of the record's own."""
    prompt, response = layout(record.prompt, response or record.response)
    return tokenizer.encode_ordinary(prompt), tokenizer.encode_ordinary(response)


def batches(lengths, batch_size, rng):
    """Shuffled lists of at most `batch_size` indices whose `lengths` are alike, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    chunks = [order[i:i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(chunks)
    return chunks


def write(path, save):
    """Write a file whole or not at all: save(temporary path), then rename."""
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    os.replace(temporary, path)


def write_json(path, value):
    """One JSON value, indented."""
    write(path, lambda tmp: tmp.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"))


def write_lines(path, rows):
    """One JSON object a line."""
    write(path, lambda tmp: tmp.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"))
