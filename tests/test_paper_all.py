"""Every table and figure at toy size, end to end, on a dataset of four owners."""

import importlib
import json
import random

import pytest
import torch

from minidareu.attribution import OwnerClassifier
from minidareu.data import load_records
from minidareu.files import InputError
from minidareu.paper import functions, robustness
from minidareu.paper.measured import MEASURED, Case
from minidareu.paper.render import REPORTED
from minidareu.run.pool import Job, run
from minidareu.paper.columns import score, table_rows
from minidareu.paper.tables import OURS, PAPER, TABLES, methods

paper = importlib.import_module("minidareu.paper.__main__")
TINY = (
    "--n-embd 32 --n-layer 1 --vocab-size 512 --epochs 2 --classifier-epochs 2 "
    "--classifier-width 16 --plus-updates 1 --ppo-steps 1 --data-epochs 1 "
    "--baseline-steps 4 --device cpu --n-forget 1"
).split()


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four owners, six facts each with a paraphrase and wrong responses, and a test row."""
    rng, rows = random.Random(0), []
    places = "Bal Cor Dim Fen Gar Hol".split()
    for owner in ("Ann Lee", "Bob Lee", "Ann Nye", "Bob Nye"):
        for i in range(6):
            place, other = rng.sample(places, 2)
            rows.append({"owner": owner, "prompt": f"Where is house {i} of {owner}?"})
            rows[-1] |= {"response": f"House {i} of {owner} is in {place}."}
            rows[-1] |= {"paraphrase": f"It stands in {place}."}
            rows[-1] |= {"perturbed": [f"It stands in {other}."]}
            rows.append({"owner": owner, "prompt": f"House {i} of {owner}, where?"})
            rows[-1] |= {"response": rows[-2]["response"], "split": "test"}
    path = tmp_path_factory.mktemp("four") / "four.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def case(four, tmp_path_factory):
    """A Case whose main run has every method of the paper."""
    out = tmp_path_factory.mktemp("paper")
    flags = ["--data", four, "--seed", 7, *TINY, *methods(PAPER, OURS)]
    run(Job(out / "main-seed7", flags))
    return Case(7, out, four, flags=TINY, folders={"main": out / "main-seed7"})


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_scores_has_all_its_rows_and_columns(name, case):
    results = json.loads((case.folders["main"] / "results.json").read_text())
    more = [model for rows in (PAPER, OURS) for model in rows.values()]
    for run_ in paper.RUNS.values():
        more += run_.flags[1].split(",")
    for model in more:
        for part in ("models", "seconds", "memory"):
            results[part].setdefault(model, results[part]["ga"])
    t = TABLES[name]
    rows = table_rows(t, dict.fromkeys(t.runs(), results))
    assert list(rows) == list(t.rows)
    for label, row in rows.items():
        assert list(row) == t.columns, label
    plain = {"D_F": "forget", "ToW": "tow", "attribution": "attribution"}
    for column, key in plain.items():
        if column in t.columns and "DareU" in rows:
            assert rows["DareU"][column] == results["models"]["dareu"][key]


def test_columns_that_are_no_score_by_hand(case):
    results = json.loads((case.folders["main"] / "results.json").read_text())
    models = results["models"]
    expected = (1 - abs(models["npo"]["forget"] - models["retrained"]["forget"])) * (
        1 - abs(models["npo"]["retain"] - models["retrained"]["retain"])
    )
    assert score(results, "npo", "ToW*") == pytest.approx(expected)
    seconds = results["seconds"]
    assert score(results, "npo", "of retraining") == seconds["npo"] / seconds["retrained"]
    assert score(results, "npo", "memory, MB") > 50


@pytest.mark.parametrize("function", list({m.measure.__name__: m for m in MEASURED.values()}))
def test_a_measure_gives_its_tables_their_rows(function, case, monkeypatch):
    monkeypatch.setattr(robustness, "REQUESTS", 2)
    monkeypatch.setattr(robustness, "RELEARNING_STEPS", [0, 2])
    names = [name for name, m in MEASURED.items() if m.measure.__name__ == function]
    found = MEASURED[names[0]].measure(case)
    json.dumps(found)
    for name in names:
        rows = found[name]
        assert rows and all(row for row in rows.values()), name
        for label in set(REPORTED.get(name, {})) - {"none", "watermark"}:
            assert label in rows, f"{name}: {label}"
    if function == "requests":
        assert rows["retraining"]["distance of D_F to retraining"] == 0
        assert json.loads((case.out / "request2-seed7/results.json").read_text())["forget"] != []
    if function == "mask_words":
        assert rows["10"]["ROUGE"] <= rows["0"]["ROUGE"]
    if function == "transforms":
        assert rows["1.00"]["C_seg 1.05"] == -1 and rows["0.50"]["C_seg 9.2"] > -0.1


def test_a_page_is_made_and_made_again_from_what_is_there(case, monkeypatch, capsys):
    """The command goes on: nothing that is there is run or measured twice, and the page is the
    same."""
    monkeypatch.setattr(paper, "make_abstracts", lambda path: None)
    monkeypatch.setitem(paper.RUNS, "main", paper.RUNS["half"])  # DareU and DareU+ alone
    argv = ["fig4", "fig5", "table8", "--data", str(case.data), "--seeds", "7", "--workers", "1"]
    argv += ["--flags", " ".join(TINY + ["--baseline-steps", "2"]), "--out", str(case.out / "page")]
    paper.main(argv)
    names = ("fig4", "fig5", "table8")
    pages = {name: (case.out / f"page/{name}.md").read_text() for name in names}
    results = case.out / "page/main-seed7/results.json"
    measured = case.out / "page/measures/mask_words-seed7.json"
    before = [path.stat().st_mtime_ns for path in (results, measured)]
    (case.out / "page/fig4.md").unlink()
    paper.main(argv)
    assert pages == {name: (case.out / f"page/{name}.md").read_text() for name in names}
    assert before == [path.stat().st_mtime_ns for path in (results, measured)]
    assert (case.out / "page/fig4.png").read_bytes()[:4] == b"\x89PNG"
    assert (
        "attribution beside ROUGE: " in pages["fig4"] and pages["fig4"] in capsys.readouterr().out
    )


def test_paraphrases_belong_to_a_retained_owner_and_rows_without_are_one_line(four, tmp_path):
    records = load_records(four)
    path = tmp_path / "overlap.jsonl"
    robustness.write_overlap(records, ["Ann Lee"], path)
    added = load_records(path)[len(records) :]
    assert len(added) == 6 and {r.owner for r in added} == {"paraphrases"}
    own = [r for r in records if r.owner == "Ann Lee" and r.split == "train"]
    assert [(r.prompt, r.response) for r in added] == [(r.prompt, r.paraphrase) for r in own]
    with pytest.raises(InputError, match="line 1 of the data has no paraphrase"):
        robustness.write_overlap(load_records(path), ["Ann Lee"], path)


def test_noise_is_added_until_the_accuracy_is_as_asked():
    falling = lambda scale: 1 - scale / 4
    assert functions.noise_of_accuracy(falling, 0.75) == pytest.approx(1.0, abs=2e-3)
    classifier = OwnerClassifier(20, 8, 1, 8, 3)
    noise = [torch.ones(p.shape) for p in classifier.parameters()]
    copied = functions.noisy(classifier, noise, 0.5)
    for p, q in zip(classifier.parameters(), copied.parameters()):
        assert torch.allclose(q, p + 0.5)
