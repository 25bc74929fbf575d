"""Verdicts on made-up results whose answer is known, and the paper's numbers beside our rows."""

import pytest
from scipy.stats import kendalltau

from minidareu.paper.__main__ import ITEMS, NAMES, picked
from minidareu.paper.measured import MEASURED
from minidareu.paper.render import REPORTED, render, reported, verdicts
from minidareu.paper.tables import RUNS, TABLES
from minidareu.paper.verdict import compare, count_pairs
from minidareu.files import InputError

PAPER = {"a": 0.9, "b": 0.5, "c": 0.1}


def made(**values):
    return {name: [value, value + 0.01, value + 0.02] for name, value in values.items()}


@pytest.mark.parametrize(
    "ours, says",
    [
        (made(a=0.8, b=0.6, c=0.2), "the same order. Of 3 pairs 3 as in"),
        (made(a=0.8, b=0.6, c=0.7), "mostly the same order. Of 3 pairs 2 as in the paper, 1"),
        (made(a=0.5, b=0.5, c=0.5), "undecided. Of 3 pairs 0 as"),
        (
            {"a": [0.9, 0.2], "b": [0.5, 0.5], "c": [0.1, 0.3]},
            "undecided. Of 3 pairs 1 as in the paper, 0 the other",
        ),
        ({"a": [0.9, None], "b": [0.5, 0.5], "c": [0.1, 0.1]}, "Of 1 pairs"),  # a missing value
    ],
)
def test_the_verdict_on_made_up_results(ours, says):
    line = compare("ToW", ours, PAPER)
    assert line.startswith("ToW: ") and says in line


def test_ties_in_the_paper_say_nothing_and_one_row_has_no_verdict():
    assert count_pairs(made(a=0.1, b=0.9), {"a": 0.5, "b": 0.5}) == (0, 0, 0)
    assert compare("ToW", made(a=0.1), PAPER) is None


def test_the_rank_correlation_is_kendalls():
    paper = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    ours = made(a=0.3, b=0.1, c=0.5, d=0.4, e=0.9)
    tau = kendalltau([x[1] for x in ours.values()], list(paper.values())).statistic
    assert compare("x", ours, paper).endswith(f"rank correlation of the medians {tau:.2f}.")


def test_what_the_paper_reports_are_rows_and_columns_of_ours():
    for name, rows in REPORTED.items():
        if name in ("claims", "together"):
            continue
        assert name in ITEMS, name
        if name in TABLES:
            t = TABLES[name]
            assert set(rows) <= set(t.rows), name
            columns = {column for row in rows.values() for column in row}
            assert columns <= set(t.columns), name


def test_every_table_names_runs_that_there_are():
    for t in TABLES.values():
        assert set(t.runs()) <= set(RUNS)
    for m in MEASURED.values():
        assert set(m.needs) <= set(RUNS)
    for r in RUNS.values():
        assert r.base in RUNS and RUNS[r.base].base == r.base


def test_a_table_is_picked_with_its_halves_and_an_unknown_one_is_one_line():
    assert picked(["table2", "fig4"]) == ["table2a", "table2b", "fig4"]
    assert picked(["all"]) == NAMES and NAMES[0] == "table1" and NAMES[-1] == "fig8"
    with pytest.raises(InputError, match="table99"):
        picked(["table99"])


def test_a_page_shows_ours_beside_the_papers():
    rows = {label: {"D_F": [0.5, 0.6, 0.7], "ToW": [0.7, 0.8, 0.9]} for label in ("1", "2", "3")}
    found = {"name": "table13", "title": "T", "question": "Q?", "rows": rows, "example": ["x y"]}
    text = "\n".join(render(found))
    assert "|  | D_F | paper | ToW | paper |" in text
    assert "| 2 | 0.600 (0.500 to 0.700) | 0.323 | 0.800 (0.700 to 0.900) | 0.793 |" in text
    assert "```text\nx y\n```" in text and len(verdicts("table13", rows)) == 2
    assert reported("table13")["ToW"] == {"1": 0.816, "2": 0.793, "3": 0.749}
