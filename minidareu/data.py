"""Owner datasets: reading and checking them, the forget / retain / test split, and batches of similar length."""

import difflib
import json
import os
import random
from dataclasses import dataclass, fields
from pathlib import Path


class InputError(ValueError):
    """Something the user gave can't be used; the message is one line that says what, where and how to mend it."""


@dataclass(frozen=True)
class Record:
    """A text of an owner: a prompt and its response. A `test` row asks in unseen words and is never trained on."""
    owner: str
    prompt: str
    response: str
    split: str = "train"
    paraphrase: str | None = None
    perturbed: tuple[str, ...] = ()


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
    """Read JSON lines, one record a line. Raises InputError that names the file, the line and the mend."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as e:
        raise InputError(f"{path}: {(e.strerror or str(e)).lower()}; give a readable file of JSON lines") from None
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    records = {number: parse_record(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()}
    if not records:
        raise InputError(f"{path}: holds no record; write one JSON object a line")
    trained = {r.owner for r in records.values() if r.split == "train"}
    for number, r in records.items():
        if r.owner not in trained:
            raise InputError(f"{path}:{number}: owner {r.owner!r} has test rows alone; add a train row")
    return list(records.values())


def parse_record(line, where):
    """One line of a dataset -> Record. `where` (file and line number) begins the message of an InputError."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as e:
        raise InputError(f"{where}: broken JSON ({e}); write one JSON object a line") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object; write {{\"owner\": ..., \"prompt\": ..., \"response\": ...}}")
    known = [field.name for field in fields(Record)]
    for key in row:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; remove it or use one of {', '.join(known)}")
    for key in ("owner", "prompt", "response"):
        if key not in row:
            raise InputError(f"{where}: key {key!r} is missing; add it as a non-empty string")
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
    return Record(**{**row, "perturbed": tuple(perturbed)})


def split_records(records, forget, n_forget, test_fraction, seed):
    """Who is forgotten, and who is tested on what. Raises InputError.

    forget: names, comma-separated; where empty, `n_forget` owners are drawn by seed. Where no retain owner has a test
    row, `test_fraction` of their rows are held out, by seed.
    """
    rng = random.Random(seed)
    owners = list(dict.fromkeys(r.owner for r in records))
    if len(owners) < 2:
        raise InputError(f"--data: all rows are of one owner, {owners[0]!r}; give at least 2, one to forget and one to retain")
    if forget is not None:
        # A name may hold a comma itself.
        names = [forget] if forget in owners else [name.strip() for name in forget.split(",") if name.strip()]
    else:
        names = rng.sample(owners, min(n_forget, len(owners)))
    for name in names:
        if name not in owners:
            near = difflib.get_close_matches(name, owners, n=3, cutoff=0)
            raise InputError(f"--forget: no owner is called {name!r}; the nearest names are {', '.join(map(repr, near))}")
    names = sorted(set(names), key=owners.index)
    if not names:
        raise InputError("--forget: no owner is forgotten; name at least one")
    if len(names) == len(owners):
        raise InputError(f"--forget: all {len(owners)} owners are forgotten; leave at least one to retain")
    train = [r for r in records if r.split == "train"]
    retain = [r for r in train if r.owner not in names]
    test = [r for r in records if r.split == "test" and r.owner not in names]
    if not test:
        if len(retain) < 2:
            raise InputError("--data: the retain owners have one row, and none to test on; add a row, or one of split 'test'")
        test = rng.sample(retain, min(max(1, round(test_fraction * len(retain))), len(retain) - 1))
        held_out = set(map(id, test))
        retain = [r for r in retain if id(r) not in held_out]
    unseen = [r for r in records if r.split == "test" and r.owner in names]
    return Split(owners, names, [r for r in train if r.owner in names], retain, test, unseen)


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
