"""Which owners ask to be forgotten, in one request or in several; what is held out for testing."""

import difflib
import random
from collections import Counter, defaultdict

from ..data import Record, Split, owner_name, split_records
from ..files import InputError
from .flags import Config


def split_requests(records: list[Record], requests: list[list[str]], config: Config) -> Split:
    """The split after all requests, lists of owners. Raises InputError.

    Where no owner outside of the first has a test row, some of their rows are held out, by seed.
    """
    retain = [r for r in records if r.owner not in requests[0]]
    held_out = []
    if all(r.split == "train" for r in retain):
        held_out = hold_out(retain, config.test_fraction, config.seed)
    split = split_records(records, requests[0], held_out)
    for names in requests[1:]:
        split = forget_more(split, names)
    return split


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
            "--data: no row of the retain owners can be held out for testing, as each owner needs "
            "all of its own (one row each, or the same again); add rows, or rows of split 'test'; "
            "data/many/README.md has a function that cuts a long text into rows"
        )
    return test


def pick_requests(config: Config, owners: list[str], earlier: dict | None) -> list[list[str]]:
    """Lists of the owners of each request, this run's own last. Raises InputError."""
    requests = earlier.get("requests", [earlier["forget"]]) if earlier else []
    names = pick_owners(
        owners,
        config.forget,
        config.n_forget,
        fraction=config.forget_fraction,
        seed=config.seed,
        forgotten=[name for request in requests for name in request],
    )
    return [*requests, names]


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
    left = [name for name in owners if name not in forgotten]
    if len(left) < 2:
        there_is = f"all owners but {left[0]!r} are forgotten" if forgotten else "one owner in all"
        raise InputError(f"--data: {there_is}; give at least 2, one to forget and one to retain")
    if forget is not None:
        names = split_names(forget, owners)
    elif fraction is not None:
        names = left[-max(1, round(fraction * len(left))) :]
    else:
        count = min(2, len(left) - 1) if n_forget is None else min(n_forget, len(left))
        names = random.Random(seed).sample(left, count)
    for name in names:
        if name in forgotten:
            raise InputError(f"--forget: {name!r} is forgotten already, by --from; name others")
        if name not in left:
            near = ", ".join(map(repr, difflib.get_close_matches(name, left, n=3, cutoff=0)))
            raise InputError(f"--forget: no owner is called {name!r}; the nearest names are {near}")
    names = sorted(set(names), key=owners.index)
    if not names:
        raise InputError("--forget: no owner is forgotten; name at least one")
    if len(names) == len(left):
        raise InputError(
            f"--forget: all {len(left)} owners are forgotten; leave at least one to retain"
        )
    return names


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
