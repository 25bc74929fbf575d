import json
import random
from collections import Counter

import pytest

from minidareu.data import InputError, Record, batches, load_records, split_records

GOOD = {"owner": "Ann", "prompt": "Who?", "response": "Ann."}


def write(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_load_records(tmp_path):
    path = write(tmp_path, GOOD, "", {**GOOD, "owner": "李 😀", "split": "train", "paraphrase": "p", "perturbed": ["a", "b"]}, {**GOOD, "split": "test"})
    assert load_records(path) == [Record("Ann", "Who?", "Ann."), Record("李 😀", "Who?", "Ann.", "train", "p", ("a", "b")),
                                  Record("Ann", "Who?", "Ann.", "test")]


@pytest.mark.parametrize("line, says", [
    ('{"owner": "A"', "broken JSON"),
    ("[1]", "not a JSON object"),
    ('"text"', "not a JSON object"),
    ({"owner": "A", "prompt": "p"}, "'response' is missing"),
    ({**GOOD, "autor": "x"}, "unknown key 'autor'"),
    ({**GOOD, "owner": 3}, "'owner' is not a string"),
    ({**GOOD, "prompt": None}, "'prompt' is not a string"),
    ({**GOOD, "response": ""}, "'response' is empty"),
    ({**GOOD, "response": " \t"}, "'response' is empty"),
    ({**GOOD, "split": "dev"}, "split is 'dev'"),
    ({**GOOD, "split": ["test"]}, "'split' is not a string"),
    ({**GOOD, "paraphrase": ""}, "'paraphrase' is empty"),
    ({**GOOD, "perturbed": "x"}, "'perturbed' is not a list"),
    ({**GOOD, "perturbed": ["x", ""]}, "'perturbed' is empty"),
    (json.dumps({**GOOD, "prompt": "\ud800"}), "surrogate"),
    ({**GOOD, "owner": "Bob", "split": "test"}, "test rows alone"),
])
def test_a_bad_row_is_named(tmp_path, line, says):
    path = write(tmp_path, GOOD, line)
    with pytest.raises(InputError) as e:
        load_records(path)
    assert f"{path}:2: " in str(e.value) and says in str(e.value) and "\n" not in str(e.value)


def test_a_bad_file_is_named(tmp_path):
    with pytest.raises(InputError, match="missing.jsonl: no such file"):
        load_records(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        load_records(tmp_path)
    with pytest.raises(InputError, match="holds no record"):
        load_records(write(tmp_path, "", " "))
    (tmp_path / "latin.jsonl").write_bytes(b'{"owner": "\xe9"}')
    with pytest.raises(InputError, match="not UTF-8"):
        load_records(tmp_path / "latin.jsonl")


def owners(n, rows=3, test=0):
    return [Record(f"owner {i}", f"prompt {i} {j}", "r", "test" if j >= rows else "train") for i in range(n) for j in range(rows + test)]


def test_split():
    split = split_records(owners(5, 3, 1), "owner 3, owner 1", 2, 0.1, 0)
    assert split.forget_owners == ["owner 1", "owner 3"]
    assert {r.owner for r in split.forget} == set(split.forget_owners) and len(split.forget) == 6
    assert len(split.retain) == 9 and len(split.test) == 3
    assert not set(split.forget_owners) & {r.owner for r in split.retain + split.test}


def test_split_by_seed():
    draws = {tuple(split_records(owners(9, 3, 1), None, 2, 0.1, seed).forget_owners) for seed in range(20)}
    assert len(draws) > 5
    assert split_records(owners(9), None, 2, 0.3, 7) == split_records(owners(9), None, 2, 0.3, 7)


def test_rows_are_held_out_where_none_is_for_testing():
    split = split_records(owners(5, 4), "owner 0", 1, 0.25, 0)
    assert len(split.test) == 4 and len(split.retain) == 12
    assert not set(split.test) & set(split.retain)


def test_a_name_may_hold_a_comma():
    records = [Record("Lee, Ann", "p", "r"), Record("Bob", "p", "r"), Record("Bob", "q", "r")]
    assert split_records(records, "Lee, Ann", 1, 0.5, 0).forget_owners == ["Lee, Ann"]


@pytest.mark.parametrize("forget, n_forget, says", [
    ("owner 33", 1, "the nearest names are 'owner 3'"),
    ("owner 0,owner 1,owner 2,owner 3", 1, "all 4 owners"),
    ("", 1, "no owner is forgotten"),
    (" , ", 1, "no owner is forgotten"),
    (None, 0, "no owner is forgotten"),
    (None, 4, "all 4 owners"),
    (None, 99, "all 4 owners"),
])
def test_bad_forget_sets(forget, n_forget, says):
    with pytest.raises(InputError, match=says):
        split_records(owners(4), forget, n_forget, 0.1, 0)


def test_one_owner_or_one_row_is_too_few():
    with pytest.raises(InputError, match="one owner"):
        split_records(owners(1), None, 1, 0.1, 0)
    with pytest.raises(InputError, match="one row"):
        split_records(owners(2, 1), None, 1, 0.1, 0)


def test_batches_hold_every_row_once_and_pad_little():
    lengths = [random.Random(1).randint(1, 50) for _ in range(333)]
    chunks = batches(lengths, 16, random.Random(0))
    assert Counter(i for chunk in chunks for i in chunk) == Counter(range(333))
    assert max(map(len, chunks)) == 16
    padded = sum(len(chunk) * max(lengths[i] for i in chunk) for chunk in chunks)
    assert padded < 1.1 * sum(lengths)
    assert chunks != batches(lengths, 16, random.Random(1)) and chunks == batches(lengths, 16, random.Random(0))
