"""Which owners are forgotten, by one request or by several, and what is held out for testing."""

import pytest
from hypothesis import given, strategies as st

from minidareu.data import Record
from minidareu.files import InputError
from minidareu.run.flags import Config
from minidareu.run.requests import forget_more, pick_owners, split_requests


def owners(n, rows=3, test=0):
    return [
        Record(f"owner {i}", f"prompt {i} {j}", "r", "test" if j >= rows else "train")
        for i in range(n)
        for j in range(rows + test)
    ]


def split_up(records, names, test_fraction, seed):
    return split_requests(records, [names], Config(test_fraction=test_fraction, seed=seed))


def test_split():
    names = pick_owners([f"owner {i}" for i in range(5)], "owner 3, owner 1", None, None, 0)
    split = split_up(owners(5, 3, 1), names, 0.1, 0)
    assert split.forget_owners == ["owner 1", "owner 3"]
    assert {r.owner for r in split.forget} == set(split.forget_owners) and len(split.forget) == 6
    assert len(split.retain) == 9 and len(split.test) == 3
    assert not set(split.forget_owners) & {r.owner for r in split.retain + split.test}


def test_owners_are_picked_by_name_by_seed_or_from_the_end():
    names = [f"owner {i}" for i in range(200)]
    assert pick_owners(names, "owner 9,owner 2", None, 0.5, 0) == ["owner 2", "owner 9"]
    shares = [pick_owners(names, None, None, share, 0) for share in (0.01, 0.05, 0.1)]
    assert list(map(len, shares)) == [2, 10, 20] and shares[0] == names[-2:]
    assert len({tuple(pick_owners(names, None, 2, None, seed)) for seed in range(20)}) > 15
    assert len(pick_owners(names, None, None, None, 0)) == 2
    assert len(pick_owners(names[:2], None, None, None, 0)) == 1
    with pytest.raises(InputError, match="'owner 1' is forgotten already"):
        pick_owners(names, "owner 0, owner 1", None, None, 0, ["owner 1"])
    with pytest.raises(InputError, match="all owners but 'owner 1'"):
        pick_owners(names[:2], None, 1, None, 0, ["owner 0"])


def test_rows_are_held_out_where_none_is_for_testing():
    split = split_up(owners(5, 4), ["owner 0"], 0.25, 0)
    assert len(split.test) == 4 and len(split.retain) == 12
    assert not set(split.test) & set(split.retain)
    assert (
        split
        == split_up(owners(5, 4), ["owner 0"], 0.25, 0)
        != split_up(owners(5, 4), ["owner 0"], 0.25, 1)
    )


def test_rows_are_held_out_by_their_content():
    records = owners(5, 4) * 2  # every row twice
    split = split_up(records, ["owner 0"], 0.1, 0)
    trained_on = {(r.prompt, r.response) for r in split.retain}
    assert split.test and not trained_on & {(r.prompt, r.response) for r in split.test}
    assert len(split.retain) + 2 * len(split.test) == 32


def test_the_last_row_of_an_owner_is_never_held_out():
    records = owners(2, 12) + [Record(f"one {i}", f"only {i}", "r") for i in range(30)]
    for seed in range(20):
        split = split_up(records, ["owner 0"], 0.5, seed)
        assert {r.owner for r in split.retain} == {"owner 1", *(f"one {i}" for i in range(30))}
        assert {r.owner for r in split.test} == {"owner 1"}
    shared = [Record("a", "p", "r"), Record("b", "p", "r"), Record("b", "q", "r"), *owners(1)]
    for seed in range(20):
        retained = {r.owner for r in split_up(shared, ["owner 0"], 0.9, seed).retain}
        assert retained == {"a", "b"}, "a row of b's is also the only one of a"
    with pytest.raises(InputError, match="one row each"):
        split_up(owners(9, 1), ["owner 0"], 0.1, 0)
    more = forget_more(split_up(records, ["owner 0"], 0.5, 0), ["one 3"])
    assert [r.owner for r in more.forget if r.owner != "owner 0"] == ["one 3"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=1), st.integers(0))
def test_held_out_rows_of_any_data(rows, seed):
    """Rows of few contents, which owners share and repeat: 'z' is to be forgotten."""
    records = [Record(owner, f"prompt {i}", "r") for owner, i in rows] + [Record("z", "p", "r")]
    try:
        split = split_up(records, ["z"], 0.3, seed)
    except InputError:
        contents = {owner: {i for o, i in rows if o == owner} for owner, _ in rows}
        assert all(any(c <= {i} for c in contents.values()) for _, i in rows)
        return
    assert split.test and {r.owner for r in split.retain} == {owner for owner, _ in rows}
    assert not {r.prompt for r in split.test} & {r.prompt for r in split.retain}


def test_a_further_request_changes_sides_and_what_is_trained_on_stays():
    before = split_up(owners(6, 4), ["owner 4"], 0.25, 0)
    after = forget_more(before, ["owner 2"])
    assert after.forget_owners == ["owner 2", "owner 4"] and {
        r.owner for r in after.forget + after.unseen
    } == {"owner 2", "owner 4"}
    assert set(after.forget + after.retain) == set(before.forget + before.retain) and set(
        after.test + after.unseen
    ) == set(before.test)
    assert not {"owner 2", "owner 4"} & {r.owner for r in after.retain + after.test}
    with pytest.raises(InputError, match="no row of another owner"):
        forget_more(before, [f"owner {i}" for i in range(6) if i != 4])


def test_a_name_may_hold_a_comma():
    assert pick_owners(["Lee, Ann", "Bob"], "Lee, Ann", None, None, 0) == ["Lee, Ann"]
    names = ["Doe, Jane", "Jane", "Doe", "Bob"]
    assert pick_owners(names, "Doe, Jane,Bob", None, None, 0) == ["Doe, Jane", "Bob"]
    assert pick_owners(names, "Doe, Jane", None, None, 0, ["Jane"]) == ["Doe, Jane"]
    with pytest.raises(InputError, match="'Jane' is forgotten already"):
        pick_owners(names, "Bob, Jane", None, None, 0, ["Jane"])


@pytest.mark.parametrize(
    "forget, n_forget, says",
    [
        ("owner 33", 1, "the nearest names are 'owner 3'"),
        ("owner 0,owner 1,owner 2,owner 3", 1, "all 4 owners"),
        ("", 1, "no owner is forgotten"),
        (" , ", 1, "no owner is forgotten"),
        (None, 0, "no owner is forgotten"),
        (None, 4, "all 4 owners"),
        (None, 99, "all 4 owners"),
    ],
)
def test_bad_forget_sets(forget, n_forget, says):
    with pytest.raises(InputError, match=says):
        pick_owners([f"owner {i}" for i in range(4)], forget, n_forget, None, 0)


def test_one_owner_or_one_row_is_too_few():
    with pytest.raises(InputError, match="one owner"):
        pick_owners(["owner 0"], None, 1, None, 0)
    with pytest.raises(InputError, match="one row"):
        split_up(owners(2, 1), ["owner 0"], 0.1, 0)
