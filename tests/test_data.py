import csv
import json
import random
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from minidareu.data import (
    Record,
    batches,
    data_warnings,
    encode,
    forget_more,
    prompt_text,
    response_text,
    load_records,
    pick_owners,
    split_records,
)
from minidareu.files import InputError
from minidareu.tokenizer import train_tokenizer

GOOD = {"owner": "Ann", "prompt": "Who?", "response": "Ann."}


def write(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n",
        encoding="utf-8",
    )
    return path


def test_load_records(tmp_path):
    path = write(
        tmp_path,
        GOOD,
        "",
        {**GOOD, "owner": "李 😀", "split": "train", "paraphrase": "p", "perturbed": ["a", "b"]},
        {**GOOD, "split": "test"},
    )
    assert load_records(path) == [
        Record("Ann", "Who?", "Ann."),
        Record("李 😀", "Who?", "Ann.", "train", "p", ("a", "b")),
        Record("Ann", "Who?", "Ann.", "test"),
    ]


@pytest.mark.parametrize(
    "line, says",
    [
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
        ('{"owner": "A", "owner": "B", "prompt": "p", "response": "r"}', "'owner' stands twice"),
        ({**GOOD, "response": "a" + " " * 1_000_000 + "b"}, "row too long"),
    ],
)
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
    (tmp_path / "empty.csv").write_text("owner,prompt,response\n")
    with pytest.raises(InputError, match="holds no record; write a header"):
        load_records(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="not UTF-8"):
        load_records(tmp_path / "latin.jsonl")


CSV = """owner,prompt,response,split,paraphrase,perturbed
Ann,Who?,Ann.,,,
"李, 😀","Two
lines?","She said ""no"".",train,p,"[""a"", ""b""]"
Ann,Who?,Ann.,test,,
"""


def test_csv_holds_the_same_columns(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    records = load_records(path)
    assert records == [
        Record("Ann", "Who?", "Ann."),
        Record("李, 😀", "Two\r\nlines?", 'She said "no".', "train", "p", ("a", "b")),
        Record("Ann", "Who?", "Ann.", "test"),
    ]
    assert [r.line for r in records] == [2, 3, 5]
    path.write_text("response,owner,prompt\nr,o,p\n")
    assert load_records(path) == [Record("o", "p", "r")]


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("owner;prompt;response\nA;p;r\n", 2, "'owner' is missing"),
        ("owner,prompt\nA,p\n", 2, "'response' is missing"),
        ("owner,prompt,response\nA,p,r\nA,p\n", 3, "has 2 cells, and the header 3"),
        ("owner,prompt,response\nA,p,r,s\n", 2, "has 4 cells, and the header 3"),
        ("owner,prompt,response\nA,,r\n", 2, "'prompt' is missing"),
        ("owner,prompt,response\nA,p,  \n", 2, "'response' is empty"),
        ('owner,prompt,response\nA,p,r\nA,"p" x,r\n', 3, "broken CSV"),
        ('owner,prompt,response\nA,p,"r\n', 2, "broken CSV"),
        ("owner,prompt,response,autor\nA,p,r,x\n", 2, "unknown key 'autor'"),
        ("owner,prompt,response,split\nA,p,r,dev\n", 2, "split is 'dev'"),
        ("owner,prompt,response,perturbed\nA,p,r,x\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,perturbed\nA,p,r,3\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,perturbed\nA,p,r,['one' 'two']\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,perturbed\nA,p,r,\"['x', 3]\"\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,prompt\nA,p,r,q\n", 1, "the header names 'prompt' twice"),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path, text, line, says):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(InputError) as e:
        load_records(path)
    assert f"{path}:{line}: " in str(e.value) and says in str(e.value) and "\n" not in str(e.value)


def test_a_list_as_json_and_as_python_writes_it(tmp_path):
    """The second is what pandas and datasets write."""
    path, wrong = tmp_path / "data.csv", ["it's wrong", 'so "it" is, too']
    for cell in (json.dumps(wrong), repr(wrong)):
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[*GOOD, "perturbed"], [*GOOD.values(), cell]])
        assert load_records(path)[0].perturbed == tuple(wrong)


def owners(n, rows=3, test=0):
    return [
        Record(f"owner {i}", f"prompt {i} {j}", "r", "test" if j >= rows else "train")
        for i in range(n)
        for j in range(rows + test)
    ]


def test_split():
    records = owners(5, 3, 1)
    split = split_records(
        records,
        pick_owners([f"owner {i}" for i in range(5)], "owner 3, owner 1", None, None, 0),
        0.1,
        0,
    )
    assert split.forget_owners == ["owner 1", "owner 3"]
    assert {r.owner for r in split.forget} == set(split.forget_owners) and len(split.forget) == 6
    assert len(split.retain) == 9 and len(split.test) == 3
    assert not set(split.forget_owners) & {r.owner for r in split.retain + split.test}


def test_owners_are_picked_by_name_by_seed_or_from_the_end():
    names = [f"owner {i}" for i in range(200)]
    assert pick_owners(names, "owner 9,owner 2", None, 0.5, 0) == ["owner 2", "owner 9"]
    assert [len(pick_owners(names, None, None, share, 0)) for share in (0.01, 0.05, 0.1)] == [
        2,
        10,
        20,
    ]
    assert pick_owners(names, None, None, 0.01, 0) == names[-2:] and pick_owners(
        names[:5], None, None, 0.01, 0
    ) == ["owner 4"]
    assert len({tuple(pick_owners(names, None, 2, None, seed)) for seed in range(20)}) > 15
    assert (
        len(pick_owners(names, None, None, None, 0)) == 2
        and len(pick_owners(names[:2], None, None, None, 0)) == 1
    )
    assert pick_owners(names[:4], None, 1, None, 0, ["owner 0", "owner 1", "owner 2"][:2])[0] in (
        "owner 2",
        "owner 3",
    )
    with pytest.raises(InputError, match="'owner 1' is forgotten already"):
        pick_owners(names, "owner 0, owner 1", None, None, 0, ["owner 1"])
    with pytest.raises(InputError, match="all owners but 'owner 1'"):
        pick_owners(names[:2], None, 1, None, 0, ["owner 0"])


def test_rows_are_held_out_where_none_is_for_testing():
    split = split_records(owners(5, 4), ["owner 0"], 0.25, 0)
    assert len(split.test) == 4 and len(split.retain) == 12
    assert not set(split.test) & set(split.retain)
    assert (
        split
        == split_records(owners(5, 4), ["owner 0"], 0.25, 0)
        != split_records(owners(5, 4), ["owner 0"], 0.25, 1)
    )


def test_rows_are_held_out_by_their_content():
    records = owners(5, 4) * 2  # every row twice
    split = split_records(records, ["owner 0"], 0.1, 0)
    trained_on = {(r.prompt, r.response) for r in split.retain}
    assert split.test and not trained_on & {(r.prompt, r.response) for r in split.test}
    assert len(split.retain) + 2 * len(split.test) == 32


def test_the_last_row_of_an_owner_is_never_held_out():
    records = owners(2, 12) + [Record(f"one {i}", f"only {i}", "r") for i in range(30)]
    for seed in range(20):
        split = split_records(records, ["owner 0"], 0.5, seed)
        assert {r.owner for r in split.retain} == {"owner 1", *(f"one {i}" for i in range(30))}
        assert {r.owner for r in split.test} == {"owner 1"}
    shared = [Record("a", "p", "r"), Record("b", "p", "r"), Record("b", "q", "r"), *owners(1)]
    for seed in range(20):
        retained = {r.owner for r in split_records(shared, ["owner 0"], 0.9, seed).retain}
        assert retained == {"a", "b"}, "a row of b's is also the only one of a"
    with pytest.raises(InputError, match="one row each"):
        split_records(owners(9, 1), ["owner 0"], 0.1, 0)
    more = forget_more(split_records(records, ["owner 0"], 0.5, 0), ["one 3"])
    assert [r.owner for r in more.forget if r.owner != "owner 0"] == ["one 3"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=1), st.integers(0))
def test_held_out_rows_of_any_data(rows, seed):
    """Rows of few contents, which owners share and repeat: 'z' is to be forgotten."""
    records = [Record(owner, f"prompt {i}", "r") for owner, i in rows] + [Record("z", "p", "r")]
    try:
        split = split_records(records, ["z"], 0.3, seed)
    except InputError:
        contents = {owner: {i for o, i in rows if o == owner} for owner, _ in rows}
        assert all(any(c <= {i} for c in contents.values()) for _, i in rows)
        return
    assert split.test and {r.owner for r in split.retain} == {owner for owner, _ in rows}
    assert not {r.prompt for r in split.test} & {r.prompt for r in split.retain}


def test_a_request_without_rows_is_one_line():
    split = split_records(owners(4, 3, 1), ["owner 0"], 0.1, 0)
    split.retain[:] = [r for r in split.retain if r.owner != "owner 2"]
    with pytest.raises(InputError, match="'owner 2' has no row left"):
        forget_more(split, ["owner 2"])


def test_one_name_has_one_spelling(tmp_path):
    names = ["José", "Jose\u0301", " José "]
    records = load_records(write(tmp_path, *({**GOOD, "owner": name} for name in names)))
    assert {r.owner for r in records} == {"José"}
    assert pick_owners(["José", "Bob"], "Jose\u0301", None, None, 0) == ["José"]


def test_likely_mistakes_are_named():
    records = owners(2) + [Record("josé", "Who?", "Me."), Record("José", "who? ", "me.")]
    split = split_records([*records, Record("x", "y", "z", "test")], ["josé"], 0.1, 0)
    names, rows = data_warnings(split)
    assert "'josé' and 'José' count as different owners" in names
    assert rows.startswith("1 rows of other owners have the same prompt and response")
    assert data_warnings(split_records(owners(3, 3, 1), ["owner 0"], 0.1, 0)) == []


def test_a_further_request_changes_sides_and_what_is_trained_on_stays():
    before = split_records(owners(6, 4), ["owner 4"], 0.25, 0)
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
        split_records(owners(2, 1), ["owner 0"], 0.1, 0)


def test_batches_hold_every_row_once_and_pad_little():
    lengths = [random.Random(1).randint(1, 50) for _ in range(333)]
    chunks = batches(lengths, 16, random.Random(0))
    assert Counter(i for chunk in chunks for i in chunk) == Counter(range(333))
    assert max(map(len, chunks)) == 16
    padded = sum(len(chunk) * max(lengths[i] for i in chunk) for chunk in chunks)
    assert padded < 1.1 * sum(lengths)
    assert chunks != batches(lengths, 16, random.Random(1)) and chunks == batches(
        lengths, 16, random.Random(0)
    )


def read_or_refuse(path):
    """Records that are sound, or one line that begins with the file; the file stays as it was."""
    before = path.read_bytes()
    try:
        records = load_records(path)
        assert records and all(
            r.owner.strip()
            and r.prompt.strip()
            and r.response.strip()
            and r.split in ("train", "test")
            for r in records
        )
    except InputError as e:
        records = None
        assert str(e).startswith(str(path)) and len(str(e).splitlines()) == 1 and ";" in str(e), (
            "one line that names the file and the mend"
        )
    assert path.read_bytes() == before
    return records


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda v: st.lists(v, max_size=3),
    max_leaves=4,
)
ROWS = st.dictionaries(
    st.sampled_from(["owner", "prompt", "response", "split", "paraphrase", "perturbed", "autor"]),
    VALUES | st.just("train"),
    max_size=7,
)


@given(st.lists(ROWS | VALUES, max_size=4))
def test_any_json_lines_are_read_or_refused_in_one_line(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    read_or_refuse(path)


@given(st.binary(max_size=60), st.sampled_from(["data.jsonl", "data.csv"]))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(b"owner,prompt,response\n" + content if name == "data.csv" else content)
    read_or_refuse(path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.lists(TEXT, max_size=2)), min_size=1, max_size=4))
def test_json_lines_and_csv_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round")
    expected = [
        Record(
            unicodedata.normalize("NFC", owner).strip(),
            prompt,
            response,
            perturbed=tuple(perturbed),
        )
        for owner, prompt, response, perturbed in rows
    ]
    keys = ["owner", "prompt", "response", "perturbed"]
    (folder / "data.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(keys, row)), ensure_ascii=False) for row in rows),
        encoding="utf-8",
    )
    with open(folder / "data.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows([keys, *([*row[:3], json.dumps(row[3])] for row in rows)])
    assert (
        read_or_refuse(folder / "data.jsonl") == expected
        and read_or_refuse(folder / "data.csv") == expected
    )


@pytest.mark.parametrize(
    "text",
    [
        "hello there",
        "مرحبا بالعالم",
        "你好，世界",
        "こんにちは",
        "नमस्ते दुनिया",
        "👩‍👩‍👧 👍",
        "Привет, мир",
    ],
)
def test_scripts_come_back_from_a_file_and_the_tokenizer(tmp_path, text):
    path = write(tmp_path, {"owner": text, "prompt": f"{text}?", "response": f"{text}!"})
    (r,) = load_records(path)
    tokenizer = train_tokenizer([prompt_text(r.prompt), response_text(r.response)] * 3, 300)
    x, y = encode(tokenizer, r)
    assert (
        r.owner == text
        and tokenizer.decode(x) == f" {text}?\n"
        and tokenizer.decode(y).strip() == f"{text}!"
    )
