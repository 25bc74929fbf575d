"""Owner datasets: reading and checking them, the forget / retain / test split, batches."""

import csv
import difflib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .files import InputError, read_text

KEYS = ["owner", "prompt", "response", "split", "paraphrase", "perturbed"]
LONGEST_CELL = 2**31 - 1  # of a CSV file, in characters


@dataclass(frozen=True)
class Record:
    """A text of an owner: a prompt q_d and its response y*_d.

    A `test` row asks for a known fact in unseen words and is never trained on.
    """

    owner: str
    prompt: str
    response: str
    split: str = "train"
    paraphrase: str | None = None
    perturbed: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)  # of its file, counted from 1


@dataclass(frozen=True)
class Split:
    """Which rows are forgotten, which retained, and which are never trained on."""

    owners: list[str]
    forget_owners: list[str]
    forget: list[Record]  # D_F: train rows of the forget owners
    retain: list[Record]  # D_R: train rows of all others
    test: list[Record]  # D_test: test rows of all others
    unseen: list[Record]  # test rows of the forget owners


def load_records(path: str | Path) -> list[Record]:
    """Read JSON lines, or CSV where the file's name ends so.

    Raises InputError that names the file, the line and the mend.
    """
    records = []
    for line, row in read_rows(path, ("owner", "prompt", "response")):
        where = f"{path}:{line}"
        if is_csv(path) and "perturbed" in row:
            try:
                row["perturbed"] = json.loads(row["perturbed"])
            except (ValueError, RecursionError):
                raise InputError(
                    f"{where}: 'perturbed' is not a list; "
                    'give a JSON list of strings, such as ["one", "two"]'
                ) from None
        records.append(parse_record(row, where, line))
    trained = {r.owner for r in records if r.split == "train"}
    for r in records:
        if r.owner not in trained:
            raise InputError(
                f"{path}:{r.line}: owner {r.owner!r} has test rows alone; add a train row"
            )
    return records


def read_rows(path: str | Path, keys: tuple[str, ...]) -> list[tuple[int, dict]]:
    """(line number, dict) of each row of a file: JSON lines, or CSV.

    Raises InputError, as for a row without one of `keys`.
    """
    rows = list(csv_rows(path) if is_csv(path) else json_rows(path))
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


def is_csv(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".csv"


def json_rows(path: str | Path) -> Iterator[tuple[int, object]]:
    """JSON lines -> (line number, value) of each line that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
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


def parse_record(row: dict, where: str, line: int) -> Record:
    """One row of a dataset -> Record. `where` (file and line) begins the message of InputError."""
    for key in row:
        if key not in KEYS:
            raise InputError(
                f"{where}: unknown key {key!r}; remove it or use one of {', '.join(KEYS)}"
            )
    perturbed = row.get("perturbed", [])
    if not isinstance(perturbed, list):
        raise InputError(f"{where}: 'perturbed' is not a list; give a list of non-empty strings")
    texts = [item for item in row.items() if item[0] != "perturbed"]
    texts += [("perturbed", text) for text in perturbed]
    for key, text in texts:
        if not isinstance(text, str):
            raise InputError(f"{where}: {key!r} is not a string; give a non-empty string")
        if not text.strip():
            raise InputError(f"{where}: {key!r} is empty; give a non-empty string")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(
                f"{where}: {key!r} holds half of a surrogate pair; write the whole character"
            )
    if row.get("split", "train") not in ("train", "test"):
        raise InputError(f"{where}: split is {row['split']!r}; use 'train' or 'test'")
    return Record(**{**row, "perturbed": tuple(perturbed)}, line=line)


def pick_owners(
    owners: list[str],
    forget: str | None,
    n_forget: int | None,
    fraction: float | None,
    seed: int,
    forgotten: list[str] | tuple = (),
) -> list[str]:
    """Names of the owners to forget, in the order of `owners`. Raises InputError.

    forget: names, comma-separated. Where it is None, the last `fraction` of the owners; where that
    is None, `n_forget` of them, drawn by seed (None: 2, or 1 of two). forgotten: the owners of
    earlier requests, who can't be picked again.
    """
    for name in forgotten:
        if forget is not None and name in [forget, *map(str.strip, forget.split(","))]:
            raise InputError(
                f"--forget: {name!r} is forgotten already, by the run that --from names; "
                "name others"
            )
    owners = [name for name in owners if name not in forgotten]
    if len(owners) < 2 and forgotten:
        raise InputError(f"--from: forgot all owners but {owners[0]!r}; one has to be left")
    if len(owners) < 2:
        raise InputError(
            f"--data: all rows are of one owner, {owners[0]!r}; "
            "give at least 2, one to forget and one to retain"
        )
    if forget is not None and forget in owners:  # a name may hold a comma itself
        names = [forget]
    elif forget is not None:
        names = [name.strip() for name in forget.split(",") if name.strip()]
    elif fraction is not None:
        names = owners[-max(1, round(fraction * len(owners))) :]
    else:
        count = min(2, len(owners) - 1) if n_forget is None else min(n_forget, len(owners))
        names = random.Random(seed).sample(owners, count)
    for name in names:
        if name not in owners:
            near = difflib.get_close_matches(name, owners, n=3, cutoff=0)
            raise InputError(
                f"--forget: no owner is called {name!r}; "
                f"the nearest names are {', '.join(map(repr, near))}"
            )
    names = sorted(set(names), key=owners.index)
    if not names:
        raise InputError("--forget: no owner is forgotten; name at least one")
    if len(names) == len(owners):
        raise InputError(
            f"--forget: all {len(owners)} owners are forgotten; leave at least one to retain"
        )
    return names


def split_records(
    records: list[Record], names: list[str], test_fraction: float, seed: int
) -> Split:
    """The split that forgets the owners of these names. Raises InputError.

    Where no retain owner has a test row, `test_fraction` of their rows are held out, by seed.
    """
    train = [r for r in records if r.split == "train"]
    retain = [r for r in train if r.owner not in names]
    test = [r for r in records if r.split == "test" and r.owner not in names]
    if not test:
        if len(retain) < 2:
            raise InputError(
                "--data: the retain owners have one row, and none to test on; "
                "add a row, or one of split 'test'"
            )
        count = min(max(1, round(test_fraction * len(retain))), len(retain) - 1)
        test = random.Random(seed).sample(retain, count)
        held_out = set(map(id, test))
        retain = [r for r in retain if id(r) not in held_out]
    return Split(
        owners=list(dict.fromkeys(r.owner for r in records)),
        forget_owners=names,
        forget=[r for r in train if r.owner in names],
        retain=retain,
        test=test,
        unseen=[r for r in records if r.split == "test" and r.owner in names],
    )


def forget_more(split: Split, names: list[str]) -> Split:
    """The split after one more request: the rows of these owners change sides.

    What was held out for testing stays held out. Raises InputError.
    """
    forgotten = [name for name in split.owners if name in split.forget_owners + names]
    more = Split(
        owners=split.owners,
        forget_owners=forgotten,
        forget=split.forget + [r for r in split.retain if r.owner in forgotten],
        retain=[r for r in split.retain if r.owner not in forgotten],
        test=[r for r in split.test if r.owner not in forgotten],
        unseen=split.unseen + [r for r in split.test if r.owner in forgotten],
    )
    if not (more.retain and more.test):
        raise InputError(
            "--forget: no row of another owner is left to train or to test on; leave one at least"
        )
    return more


def prompt_text(prompt: str) -> str:
    """How a prompt is written for a model. The space gives a first word the ids that it has
    inside a sentence."""
    return f" {prompt}\n"


def response_text(response: str) -> str:
    """How a response is written for a model."""
    return f" {response}"


def encode(tokenizer, record: Record, response: str | None = None) -> tuple[list[int], list[int]]:
    """Record -> (prompt ids, response ids). `response`, where given, takes its response's place."""
    prompt = tokenizer.encode_ordinary(prompt_text(record.prompt))
    return prompt, tokenizer.encode_ordinary(response_text(response or record.response))


def batches(lengths: list[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Shuffled lists of at most `batch_size` indices of similar `lengths`, so that little is
    padded."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(chunks)
    return chunks


def shuffled_batches(rows: list, batch_size: int, rng: random.Random) -> list[list]:
    """All rows once, in random order, `batch_size` at a time."""
    order = rng.sample(rows, len(rows))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
