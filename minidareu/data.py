"""Owner datasets: reading and checking them, the forget / retain / test split, batches."""

import difflib
import random
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .files import InputError
from .tables import is_csv, read_list, read_rows

KEYS = ["owner", "prompt", "response", "split", "paraphrase", "perturbed"]
LONGEST_TEXT = 100_000  # of a record, in characters; much longer ones crash the tokenizer


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
            row["perturbed"] = read_list(row["perturbed"])
            if row["perturbed"] is None:
                raise InputError(
                    f"{where}: 'perturbed' is not a list; "
                    'give a JSON list of strings, such as ["one", "two"]'
                )
        records.append(parse_record(row, where, line))
    trained = {r.owner for r in records if r.split == "train"}
    for r in records:
        if r.owner not in trained:
            raise InputError(
                f"{path}:{r.line}: owner {r.owner!r} has test rows alone; add a train row"
            )
    return records


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
        if len(text) > LONGEST_TEXT:
            raise InputError(
                f"{where}: row too long: {key!r} has {len(text):,} characters, and the most are "
                f"{LONGEST_TEXT:,}; shorten it, or make several rows of it"
            )
    if row.get("split", "train") not in ("train", "test"):
        raise InputError(f"{where}: split is {row['split']!r}; use 'train' or 'test'")
    owner = owner_name(row["owner"])
    return Record(**{**row, "owner": owner, "perturbed": tuple(perturbed)}, line=line)


def owner_name(text: str) -> str:
    """An owner's name, so that one name has one spelling: Unicode's form NFC, no outer spaces."""
    return unicodedata.normalize("NFC", text).strip()


def split_names(text: str, owners: list[str]) -> list[str]:
    """Comma-separated names. A name may hold commas itself: the longest known name is taken."""
    parts = text.split(",")
    names = []
    while parts:
        for n in range(len(parts), 0, -1):
            name = owner_name(",".join(parts[:n]))
            if name in owners or n == 1:
                break
        names += [name] if name else []
        parts = parts[n:]
    return names


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
    asked = split_names(forget, owners) if forget is not None else None
    for name in asked or []:
        if name in forgotten:
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
    if asked is not None:
        names = asked
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

    Where no retain owner has a test row, `test_fraction` of their rows are held out, by seed:
    wherever a row of the same prompt and response stands, and never an owner's last row.
    """
    train = [r for r in records if r.split == "train"]
    retain = [r for r in train if r.owner not in names]
    test = [r for r in records if r.split == "test" and r.owner not in names]
    if not test:
        test = hold_out(retain, test_fraction, seed)
        held_out = {(r.prompt, r.response) for r in test}
        retain = [r for r in retain if (r.prompt, r.response) not in held_out]
    return Split(
        owners=list(dict.fromkeys(r.owner for r in records)),
        forget_owners=names,
        forget=[r for r in train if r.owner in names],
        retain=retain,
        test=test,
        unseen=[r for r in records if r.split == "test" and r.owner in names],
    )


def hold_out(retain: list[Record], test_fraction: float, seed: int) -> list[Record]:
    """Rows to test on, of different contents. Raises InputError where every owner needs all."""
    rows_of = defaultdict(list)  # content: the rows that have it
    for r in retain:
        rows_of[r.prompt, r.response].append(r)
    n_left = Counter(r.owner for r in retain)
    count = max(1, round(test_fraction * len(rows_of)))
    test: list[Record] = []
    for rows in random.Random(seed).sample(list(rows_of.values()), len(rows_of)):
        fewer = Counter(r.owner for r in rows)
        if len(test) < count and all(n_left[owner] > n for owner, n in fewer.items()):
            test.append(rows[0])
            n_left -= fewer
    if not test:
        raise InputError(
            "--data: the retain owners have one row each, and none to test on; "
            "add rows, or rows of split 'test'"
        )
    return test


def data_warnings(split: Split) -> list[str]:
    """What is likely a mistake in the data, a line each: names that are nearly the same, and texts
    of the forget set that stand outside of it too."""
    warnings = []
    spellings = defaultdict(list)
    for name in split.owners:
        folded = unicodedata.normalize("NFKC", name).casefold()
        spellings[" ".join(folded.split())].append(name)
    for names in spellings.values():
        if len(names) > 1:
            same = " and ".join(map(repr, names))
            warnings.append(f"{same} count as different owners; are they one?")
    forget = {content(r): r for r in split.forget}
    both = [r for r in split.retain + split.test if content(r) in forget]
    if both:
        other = forget[content(both[0])]
        warnings.append(
            f"{len(both)} rows of other owners have the same prompt and response as a row of the "
            f"forget set (line {both[0].line} as line {other.line}); they can't be forgotten "
            "while these stay"
        )
    return warnings


def content(r: Record) -> tuple[str, str]:
    """Prompt and response, alike for texts that differ in Unicode's form, case or spaces alone."""
    prompt, response = (
        " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        for text in (r.prompt, r.response)
    )
    return prompt, response


def forget_more(split: Split, names: list[str]) -> Split:
    """The split after one more request: the rows of these owners change sides.

    What was held out for testing stays held out. Raises InputError.
    """
    forgotten = [name for name in split.owners if name in split.forget_owners + names]
    trained = {r.owner for r in split.retain}
    for name in names:
        if name not in trained:
            raise InputError(
                f"--forget: {name!r} has no row left that was trained on; name another owner"
            )
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
