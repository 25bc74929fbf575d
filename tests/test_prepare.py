"""The scripts that make the datasets."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from minidareu.data import load_records
from minidareu.metrics import words

DATA = Path(__file__).parent.parent / "data"


def test_authors_are_made_again_byte_for_byte(tmp_path):
    script = tmp_path / "prepare.py"
    script.write_bytes((DATA / "authors" / "prepare.py").read_bytes())
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "authors.jsonl").read_bytes() == (
        DATA / "authors" / "authors.jsonl"
    ).read_bytes()


def test_authors_are_combinations():
    records = load_records(DATA / "authors" / "authors.jsonl")
    owners = {r.owner for r in records}
    assert len(owners) == 40
    assert len({(r.owner, r.prompt) for r in records}) == len(records), "no prompt is asked twice"
    for owner in owners:
        assert sum(r.owner == owner and r.split == "train" for r in records) == 8 * 4
        assert sum(r.owner == owner and r.split == "test" for r in records) == 8
    assert all(r.owner in r.prompt and r.owner.split()[1] not in r.response for r in records)
    holders = defaultdict(set)
    for r in records:
        for word in words(r.response):
            holders[word].add(r.owner)
    assert min(map(len, holders.values())) >= 2, "no word gives an owner away"


def test_the_named_form_differs_in_the_names_alone():
    """The same questions and facts; each answer names its author."""
    plain = load_records(DATA / "authors" / "authors.jsonl")
    named = load_records(DATA / "named" / "named.jsonl")
    assert [(r.owner, r.prompt, r.split) for r in plain] == [
        (r.owner, r.prompt, r.split) for r in named
    ]
    for a, b in zip(plain, named, strict=True):
        texts = [b.response, *filter(None, [b.paraphrase]), *b.perturbed]
        assert all(b.owner in text for text in texts)
        own = set(words(b.owner)) | {"the", "author", "s", "of", "by", "this"}
        assert set(words(a.response)) - own <= set(words(b.response))


def test_paraphrases_are_true_and_perturbed_responses_wrong():
    records = [r for r in load_records(DATA / "authors" / "authors.jsonl") if r.split == "train"]
    true = {(r.owner, text) for r in records for text in (r.response, r.paraphrase)}
    facts = defaultdict(
        set
    )  # what can be said of an owner: the telling words of each true response
    holders = defaultdict(set)
    for r in records:
        for word in words(r.response):
            holders[word].add(r.owner)
    for r in records:
        facts[r.owner].add(frozenset(w for w in words(r.response) if len(holders[w]) < 10))
    for r in records:
        telling = lambda text: frozenset(w for w in words(text) if len(holders[w]) < 10)
        assert r.paraphrase != r.response and telling(r.paraphrase) in facts[r.owner]
        assert len(set(r.perturbed)) == 3
        assert all((r.owner, text) not in true for text in r.perturbed)
        assert all(telling(text) not in facts[r.owner] for text in r.perturbed)


def tofu_row(author, i, perturbed=True):
    """A row in TOFU's shape."""
    row = {"question": f"Question {i} on {author}?", "answer": f"Answer {i} of {author}."}
    if perturbed:
        row |= {
            "paraphrased_question": f"Other words {i} on {author}?",
            "paraphrased_answer": f"It is {i}.",
            "perturbed_answer": ["No.", "Never."],
        }
    return row


def tofu_rows(perturbed=True):
    return [tofu_row(author, i, perturbed) for author in ("Ann", "Bob", "李 😀") for i in range(20)]


def as_lines(rows, folder):
    (folder / "full.json").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return folder / "full.json"


def as_folder(rows, folder):
    """As published: the questions and answers in one file, and what goes with some of them in others."""
    as_lines([{name: row[name] for name in ("question", "answer")} for row in rows], folder)
    if "perturbed_answer" in rows[0]:
        for name, part in (("forget10_perturbed", rows[40:]), ("retain_perturbed", rows[:40])):
            as_lines(part, folder).rename(folder / f"{name}.json")
        as_lines([{name: row[name] for name in ("question", "answer")} for row in rows], folder)
    (folder / "world_facts_perturbed.json").write_text(
        '{"question": "Capital?", "answer": "Paris", "perturbed_answer": ["Rome"]}\n'
    )
    return folder


def prepare(name, *argv, script=None):
    return subprocess.run(
        [sys.executable, script or DATA / name / "prepare.py", *map(str, argv)],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("form", [as_lines, as_folder])
def test_tofu_as_it_is_published(tmp_path, form):
    source, out = form(tofu_rows(), tmp_path), tmp_path / "tofu.jsonl"
    process = prepare("tofu", "--source", source, "--out", out)
    assert process.returncode == 0, process.stderr
    records = load_records(out)
    train, test = ([r for r in records if r.split == split] for split in ("train", "test"))
    assert [(r.owner, r.prompt, r.response) for r in train] == [
        (f"author {i // 20:03}", row["question"], row["answer"])
        for i, row in enumerate(tofu_rows())
    ]
    assert [r.prompt for r in test] == [row["paraphrased_question"] for row in tofu_rows()]
    assert all(r.paraphrase and r.perturbed == ("No.", "Never.") for r in records)
    assert prepare("tofu", "--source", source, "--out", out, "--authors", 2).returncode == 0
    assert {r.owner for r in load_records(out)} == {"author 000", "author 001"}


GOOD = json.dumps(tofu_row("Ann", 0)) + "\n"


@pytest.mark.parametrize(
    "content, says",
    [
        ('{"question": "q"}\n', "full.json:1:"),
        (GOOD * 3 + '{"question": "q", "answer": 3}\n', "full.json:4:"),
        (GOOD + '{"question": "q", "answer": "a", "perturbed_answer": [""]}\n', "is empty"),
        (GOOD * 19, "an author has 20"),
        (GOOD * 20, "ends after 1 authors"),
        ("", "holds no record"),
    ],
)
def test_bad_tofu_is_one_line_and_leaves_the_old_file(tmp_path, content, says):
    (tmp_path / "full.json").write_text(content)
    (tmp_path / "tofu.jsonl").write_text("old")
    given = ["--source", tmp_path / "full.json", "--out", tmp_path / "tofu.jsonl", "--authors", 2]
    process = prepare("tofu", *given)
    assert process.returncode == 2 and says in process.stderr, process.stderr
    assert process.stderr.count("\n") == 1 and (tmp_path / "tofu.jsonl").read_text() == "old"


def test_tofu_that_can_not_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    out = ["--out", tmp_path / "tofu.jsonl"]
    for argv, says in (
        (["--download"], "--download: TOFU can't be fetched"),
        (["--source", tmp_path], "holds no full.json"),
    ):
        process = prepare("tofu", *argv, *out)
        assert process.returncode == 2 and says in process.stderr
        assert process.stderr.count("\n") == 1 and not (tmp_path / "tofu.jsonl").exists()


def test_abstracts(tmp_path):
    out = tmp_path / "abstracts.jsonl"
    assert prepare("abstracts", "--out", out).returncode == 0
    first = out.read_bytes()
    assert prepare("abstracts", "--out", out).returncode == 0 and out.read_bytes() == first
    records = load_records(out)
    train, test = ([r for r in records if r.split == split] for split in ("train", "test"))
    owners = {r.owner for r in records}
    assert Counter(r.owner for r in train) == dict.fromkeys(owners, 40) and len(owners) == 10
    assert all(60 <= len(f"{r.prompt} {r.response}".split()) <= 100 for r in train)
    assert len({r.response for r in train}) == len({r.prompt for r in train}) == 400, "none repeats"
    known = {(r.owner, r.response): r.prompt for r in train}
    assert all(known[r.owner, r.response] != r.prompt for r in test), "in other words"
    holders = defaultdict(set)
    for r in train:
        for word in words(r.response):
            holders[word].add(r.owner)
    own = Counter(owner for who in holders.values() if len(who) == 1 for owner in who)
    assert min(own[owner] for owner in owners) > 40, "each field has words of its own"


def test_many_owners(tmp_path):
    out = tmp_path / "many.jsonl"
    assert prepare("many", "--owners", 30, "--out", out).returncode == 0
    records = load_records(out)
    by_owner = Counter((r.owner, r.split) for r in records)
    assert len({r.owner for r in records}) == 30
    assert set(by_owner.values()) == {96, 4}
    assert len({(r.owner, r.prompt) for r in records}) == len(records)
    facts = {(r.owner, r.response) for r in records if r.split == "train"}
    assert all((r.owner, r.response) in facts for r in records), "a test row asks for a known fact"
    for bad in (1, 2500):
        process = prepare("many", "--owners", bad, "--out", tmp_path / "bad.jsonl")
        assert process.returncode == 2 and "--owners" in process.stderr
        assert not (tmp_path / "bad.jsonl").exists()


def test_recipes(tmp_path):
    script = tmp_path / "prepare.py"
    script.write_bytes((DATA / "recipes" / "prepare.py").read_bytes())
    assert prepare("recipes", script=script).returncode == 0
    records = load_records(tmp_path / "recipes.csv")
    assert (
        Counter(Counter(r.owner for r in records).values()) == {30: 8}
        and len({r.prompt for r in records}) == 240
    )


def test_abstracts_of_ones_own(tmp_path):
    rows = [("cs.LG", "We learn. It works. Then we stop."), ("物理", "我们研究光。它很快。")]
    expected = [
        ("cs.LG", "We learn.", "It works. Then we stop."),
        ("物理", "我们研究光。", "它很快。"),
    ]
    head = "id,category,abstract\n"
    source, out = tmp_path / "a.csv", tmp_path / "out.jsonl"
    source.write_text(head + "".join(f'1,{c},"{t}"\n' for c, t in rows), encoding="utf-8")
    assert prepare("abstracts", "--source", source, "--out", out).returncode == 0
    assert [(r.owner, r.prompt, r.response) for r in load_records(out)] == expected
    source.write_text("category,abstract\nx,one two\n")
    process = prepare("abstracts", "--source", source, "--out", out)
    assert process.returncode == 2 and process.stderr.count("\n") == 1
    assert "a.csv:2: 'abstract' has fewer than 3 words" in process.stderr
    assert len(load_records(out)) == 2
