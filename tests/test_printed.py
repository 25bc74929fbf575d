"""What a run prints: warnings of likely mistakes, and how high a score can be."""

import pytest

from minidareu.data import Record, split_records
from minidareu.report.printed import data_warnings, print_ceiling
from minidareu.scores.evaluation import Evaluation
from test_requests import owners, split_up


def test_likely_mistakes_are_named():
    records = owners(2) + [Record("josé", "Who?", "Me."), Record("José", "who? ", "me.")]
    split = split_records([*records, Record("x", "y", "z", "test")], ["josé"])
    names, rows = data_warnings(split)
    assert "'josé' and 'José' count as different owners" in names
    assert rows.startswith("1 rows of other owners have the same prompt and response")
    assert data_warnings(split_up(owners(3, 3, 1), ["owner 0"], 0.1, 0)) == []


@pytest.mark.parametrize(
    "unseen",
    "\u200b \u200f \ufeff \u00ad \u2060 \u200d \u034f \ufe0f \u3164 \u180e \U000e0041".split(" "),
)
def test_owners_that_look_the_same_are_named(unseen):
    other = f"Ann{unseen} Lee"
    records = [
        Record(name, f"Who is {i}?", "r.") for i, name in enumerate(["Ann Lee", other, "Bob"])
    ]
    records += [Record("Bob", "What?", "b", "test")]
    (told,) = data_warnings(split_records(records, ["Ann Lee"]))
    assert "count as different owners" in told and "'Ann Lee'" in told
    assert f"{ord(unseen):02x}" in told and unseen not in told, "the character is shown by its code"


def test_a_distance_of_the_test_scores_is_told(capsys):
    def evaluations(original, retrained):
        scores = {"original": original, "retrained": retrained}
        return {name: Evaluation({"test": s}, None, [], [], []) for name, s in scores.items()}

    print_ceiling(evaluations(0.729, 0.466))
    told = capsys.readouterr().out.strip()
    assert told.count("\n") == 0 and "at most 0.737" in told and "--second-retrained" in told
    print_ceiling(evaluations(0.5, 0.45))
    assert capsys.readouterr().out == ""
