"""Owners and their texts: records, what is forgotten and what is kept, encoding, batches."""

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import tiktoken
from torch import Tensor

from .files import InputError, check_texts, read_rows

KEYS = ["owner", "prompt", "response", "split", "paraphrase", "perturbed"]
Ids = list[int]  # of the tokens of a text
Pair = tuple[Ids, Ids]  # a prompt and its response
Query = tuple[Ids, int]  # a forget prompt q_d, and the index of its owner


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


@dataclass(frozen=True)
class Task:
    """What a method of unlearning is given: unlearn(policy, task, config).

    attribute(prompts, responses, owners) -> (B, longest + 1): DA(i, y[:t]) after t = 0, 1, ...
    tokens of each response, i its own owner, as `attribution.prefix_attribution` gives it.
    """

    forget: list[Query]  # of D_F the prompts, with their owners
    retain: list[Pair]  # D_R: prompts and references
    max_new_tokens: int  # of a response
    eos_id: int  # its end
    attribute: Callable[..., Tensor] | None = None
    references: list[Pair] = field(default_factory=list)  # D_F: for the loss-based methods alone
    refusals: list[Ids] = field(default_factory=list)  # for IDK alone

    @property
    def limits(self) -> dict[str, int]:
        """Keywords of `generate`."""
        return {"max_new_tokens": self.max_new_tokens, "eos_id": self.eos_id}


class Labelled(NamedTuple):
    """What a classifier is trained on: row by row a prompt, a response, and the owner's index."""

    prompts: list[Ids]
    responses: list[Ids]
    owners: list[int]


def load_records(path: str | Path) -> list[Record]:
    """Read JSON lines, or CSV where the name ends so. InputError names file, line and mend."""
    rows = read_rows(path, ("owner", "prompt", "response"), lists=("perturbed",), known=KEYS)
    records = [parse_record(row, f"{path}:{line}", line) for line, row in rows]
    trained = {r.owner for r in records if r.split == "train"}
    for r in records:
        if r.owner not in trained:
            raise InputError(
                f"{path}:{r.line}: owner {r.owner!r} has test rows alone; add a train row"
            )
    return records


def parse_record(row: dict, where: str, line: int) -> Record:
    """One row of a dataset -> Record. `where` (file and line) begins the message of InputError."""
    check_texts(row, where, lists=("perturbed",))
    if row.get("split", "train") not in ("train", "test"):
        raise InputError(f"{where}: split is {row['split']!r}; use 'train' or 'test'")
    owner = owner_name(row["owner"])
    return Record(
        **{**row, "owner": owner, "perturbed": tuple(row.get("perturbed", ()))}, line=line
    )


def owner_name(text: str) -> str:
    """An owner's name, so that one name has one spelling: Unicode's form NFC, no outer spaces."""
    return unicodedata.normalize("NFC", text).strip()


def split_records(
    records: list[Record], names: list[str], held_out: list[Record] | None = None
) -> Split:
    """The split that forgets the owners of these names. held_out: train rows of others to test on;
    all rows of their contents leave the retain set."""
    held_out = held_out or []
    contents = {(r.prompt, r.response) for r in held_out}
    train = [r for r in records if r.split == "train"]
    retain = [r for r in train if r.owner not in names]
    test = [r for r in records if r.split == "test"]
    return Split(
        owners=list(dict.fromkeys(r.owner for r in records)),
        forget_owners=names,
        forget=[r for r in train if r.owner in names],
        retain=[r for r in retain if (r.prompt, r.response) not in contents],
        test=[r for r in test if r.owner not in names] + held_out,
        unseen=[r for r in test if r.owner in names],
    )


def prompt_text(prompt: str) -> str:
    """How a prompt is written for a model. The space gives a first word the ids that it has
    inside a sentence."""
    return f" {prompt}\n"


def response_text(response: str) -> str:
    """How a response is written for a model."""
    return f" {response}"


def encode_prompt(tokenizer: tiktoken.Encoding, prompt: str) -> Ids:
    """A prompt's ids; a pretrained model's tokenizer has a way of its own."""
    own = getattr(tokenizer, "encode_prompt", None)
    return own(prompt) if own else tokenizer.encode_ordinary(prompt_text(prompt))


def encode(tokenizer: tiktoken.Encoding, record: Record, response: str | None = None) -> Pair:
    """Record -> (prompt ids, response ids). `response`, where given, takes its response's place."""
    prompt = encode_prompt(tokenizer, record.prompt)
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
