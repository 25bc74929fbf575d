"""What a run prints: warnings of likely mistakes, and how high a score can be."""

import json
from types import SimpleNamespace

import pytest

from minidareu.data import Record, split_records
from minidareu.report.printed import SHOWN, ceiling, data_warnings, folder_warnings
from minidareu.report.printed import print_scores, run_warnings
from minidareu.scores.evaluation import Evaluation
from test_requests import owners, split_up


def test_likely_mistakes_are_named():
    records = owners(2) + [Record("josé", "Who?", "Me."), Record("José", "who? ", "me.")]
    split = split_records([*records, Record("x", "y", "z", "test")], ["josé"])
    names, rows = data_warnings(split)
    assert "'josé' and 'José' count as different owners" in names
    assert rows.startswith("1 rows of other owners have the same prompt and response")
    assert data_warnings(split_up(owners(3, 3, 1), ["owner 0"], 0.1, 0)) == []


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u00ad", "\u2060", "\U000e0041"])
def test_owners_that_look_the_same_are_named(unseen):
    other = f"Ann{unseen} Lee"
    records = [
        Record(name, f"Who is {i}?", "r.") for i, name in enumerate(["Ann Lee", other, "Bob"])
    ]
    records += [Record("Bob", "What?", "b", "test")]
    (told,) = data_warnings(split_records(records, ["Ann Lee"]))
    assert "count as different owners" in told and "'Ann Lee'" in told
    assert f"{ord(unseen):02x}" in told and unseen not in told, "the character is shown by its code"


def evaluations(retrained=(0.6, 1.0, 0.9), original=(1.0, 1.0, 0.9)):
    """Of an original and a retrained model with these scores: forget, retain, test."""
    names, scores = ("forget", "retain", "test"), {"original": original, "retrained": retrained}
    more = {"recited_words": 8.0}
    return {
        name: Evaluation(dict(zip(names, values)) | more, None, [], [], [])
        for name, values in scores.items()
        if values
    }


def test_the_most_that_a_method_could_have():
    assert ceiling(evaluations()) == 1
    assert ceiling(evaluations(retrained=(0.6, 0.8, 0.5))) == pytest.approx(0.8 * 0.6)
    assert ceiling(evaluations(retrained=None)) is None


def test_a_yardstick_that_is_none_is_told():
    (told,) = run_warnings(evaluations(retrained=(0.6, 1.0, 0.637)))
    assert "a ToW above 0.737" in told and "\n" not in told
    assert run_warnings(evaluations()) == run_warnings(evaluations(retrained=None)) == []


def test_an_original_model_that_does_not_know_its_rows_is_told():
    for original, says in (((0.96, 1.0, 0.9), "0.960"), ((1.0, 0.5, 0.9), "0.500")):
        (told,) = run_warnings(evaluations(original=original, retrained=None))
        assert told.startswith("the original model tells ") and says in told and "--epochs" in told
    assert run_warnings(evaluations(original=(0.97, 0.98, 0.34), retrained=None)) == []
    (told,) = run_warnings(evaluations(original=(0.97, 0.99, 0.32), retrained=None))
    assert "0.320 of the test rows: it knows its rows by heart" in told


def test_a_method_that_recites_more_than_the_retrained_model_is_told():
    scored = evaluations() | {"mine": Evaluation({"recited_words": 10.0}, None, [], [], [])}
    assert run_warnings(scored) == []
    scored["mine"].scores["recited_words"] = 10.1
    (told,) = run_warnings(scored)
    assert told.startswith("mine: ") and "10.1 words" in told and "8.0" in told


def test_models_whose_results_are_replaced_are_told(tmp_path):
    run = SimpleNamespace(folder=tmp_path, models=["original", "ga"])
    assert folder_warnings(run) == []
    models = dict.fromkeys(["original", "retrained", "ga", "dareu"], {})
    (tmp_path / "results.json").write_text(json.dumps({"models": models}))
    (told,) = folder_warnings(run)
    assert told.startswith("retrained, dareu: in ")
    run.models = ["original", "retrained", "dareu", "ga", "npo"]
    assert folder_warnings(run) == []
    (tmp_path / "results.json").write_text("{")
    assert folder_warnings(run) == [], "it is made anew"


@pytest.mark.parametrize("kept", [None, 0.5])
def test_name_kept_is_a_column_where_a_reference_has_a_name(capsys, kept):
    scores = {**dict.fromkeys(SHOWN, 0.5), "name_kept": kept}
    print_scores({"original": scores})
    assert ("name kept" in capsys.readouterr().out) == (kept is not None)
