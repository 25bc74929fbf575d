"""The scripts that make the datasets."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from minidareu.data import load_records
from minidareu.metrics import words

DATA = Path(__file__).parent.parent / "data"


def test_authors_are_made_again_byte_for_byte(tmp_path):
    script = tmp_path / "prepare.py"
    script.write_bytes((DATA / "authors" / "prepare.py").read_bytes())
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "authors.jsonl").read_bytes() == (DATA / "authors" / "authors.jsonl").read_bytes()


def test_authors_are_combinations():
    records = load_records(DATA / "authors" / "authors.jsonl")
    owners = {r.owner for r in records}
    assert len(owners) == 40
    assert len({(r.owner, r.prompt) for r in records}) == len(records), "no prompt is asked twice"
    for owner in owners:
        assert sum(r.owner == owner and r.split == "train" for r in records) == 8 * 4
        assert sum(r.owner == owner and r.split == "test" for r in records) == 8
    assert all(r.owner in r.prompt and r.owner in r.response for r in records)
    holders = defaultdict(set)
    for r in records:
        for word in words(r.response):
            holders[word].add(r.owner)
    assert min(map(len, holders.values())) >= 2, "no word gives an owner away"


def test_paraphrases_are_true_and_perturbed_responses_wrong():
    records = [r for r in load_records(DATA / "authors" / "authors.jsonl") if r.split == "train"]
    true = {(r.owner, text) for r in records for text in (r.response, r.paraphrase)}
    facts = defaultdict(set)  # what can be said of an owner: the telling words of each true response
    holders = defaultdict(set)
    for r in records:
        for word in words(r.response):
            holders[word].add(r.owner)
    for r in records:
        facts[r.owner].add(frozenset(w for w in words(r.response) if len(holders[w]) < 10))
    for r in records:
        telling = lambda text: frozenset(w for w in words(text) if len(holders[w]) < 10)
        assert r.paraphrase != r.response and telling(r.paraphrase) in facts[r.owner] and r.owner in r.paraphrase
        assert len(set(r.perturbed)) == 3 and all(r.owner in text and (r.owner, text) not in true for text in r.perturbed)
        assert all(telling(text) not in facts[r.owner] for text in r.perturbed)


def tofu_row(author, i):
    return {"question": f"Question {i} on {author}?", "answer": f"Answer {i}.", "paraphrased_question": f"Other words {i} on {author}?",
            "paraphrased_answer": f"It is {i}.", "perturbed_answer": ["No.", "Never."]}


def convert(source, out, *flags):
    return subprocess.run([sys.executable, DATA / "tofu" / "prepare.py", "--source", source, "--out", out, *flags], capture_output=True, text=True)


def test_tofu(tmp_path):
    source, out = tmp_path / "full.json", tmp_path / "tofu.jsonl"
    source.write_text("".join(json.dumps(tofu_row(author, i)) + "\n" for author in ("Ann", "Bob", "Cy") for i in range(20)))
    assert convert(source, out, "--authors", "2").returncode == 0
    records = load_records(out)
    assert len(records) == 80 and len({r.owner for r in records}) == 2
    assert records[0].prompt == "Question 0 on Ann?" and records[0].perturbed == ("No.", "Never.") and records[0].paraphrase == "It is 0."
    assert records[1].prompt == "Other words 0 on Ann?" and records[1].split == "test" and records[1].response == "Answer 0."
    source.write_text('{"question": "q", "answer": "a"}\n' * 20)
    assert convert(source, out).returncode == 0 and len(load_records(out)) == 20


@pytest.mark.parametrize("text, says", [('{"question": "q"}\n', "full.json:1:"), ("{", "full.json:1:"), ('{"question": "q", "answer": "a"}\n', "fewer than 2")])
def test_bad_tofu_is_one_line_and_leaves_the_old_file(tmp_path, text, says):
    source, out = tmp_path / "full.json", tmp_path / "tofu.jsonl"
    source.write_text(text)
    out.write_text("old")
    process = convert(source, out, "--authors", "2")
    assert process.returncode == 2 and says in process.stderr and process.stderr.count("\n") == 1
    assert out.read_text() == "old"
