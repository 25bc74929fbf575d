import csv
import json
import random
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from minidareu.data import Record, batches, load_records
from minidareu.files import InputError
from minidareu.run.requests import pick_owners

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
        ({**GOOD, "prompt": None}, "'prompt' is null"),
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
        ({**GOOD, "response": "a" + " " * 1_000_000 + "b"}, "is too long"),
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
        ("owner|prompt|response\nA|p|r\n", 2, "'owner' is missing"),
        ("owner,prompt\nA,p\n", 2, "'response' is missing"),
        ("owner,prompt,response\nA,p,r\nA,p\n", 3, "has 2 cells, and the header 3"),
        ("owner,prompt,response\nA,,r\n", 2, "'prompt' is missing"),
        ('owner,prompt,response\nA,p,r\nA,"p" x,r\n', 3, "broken CSV"),
        ('owner,prompt,response\nA,p,"r\n', 2, "broken CSV"),
        ("owner,prompt,response,autor\nA,p,r,x\n", 2, "unknown key 'autor'"),
        ("owner,prompt,response,perturbed\nA,p,r,x\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,perturbed\nA,p,r,['one' 'two']\n", 2, "'perturbed' is not a list"),
        ("owner,prompt,response,prompt\nA,p,r,q\n", 1, "the header names 'prompt' twice"),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path, text, line, says):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(InputError) as e:
        load_records(path)
    assert f"{path}:{line}: " in str(e.value) and says in str(e.value) and "\n" not in str(e.value)


def test_one_name_has_one_spelling(tmp_path):
    names = ["José", "Jose\u0301", " José "]
    records = load_records(write(tmp_path, *({**GOOD, "owner": name} for name in names)))
    assert {r.owner for r in records} == {"José"}
    assert pick_owners(["José", "Bob"], "Jose\u0301", None, None, 0) == ["José"]


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
            unicodedata.normalize("NFC", owner).strip(), prompt, response, perturbed=tuple(wrong)
        )
        for owner, prompt, response, wrong in rows
    ]
    keys = ["owner", "prompt", "response", "perturbed"]
    lines = [json.dumps(dict(zip(keys, row)), ensure_ascii=False) for row in rows]
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with open(folder / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([keys, *([*row[:3], json.dumps(row[3])] for row in rows)])
    assert read_or_refuse(folder / "data.jsonl") == expected
    assert read_or_refuse(folder / "data.csv") == expected
