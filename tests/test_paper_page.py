"""The page of the paper's tables: its numbers are exactly those of the committed JSON files."""

import json
from pathlib import Path

import pytest

from minidareu.paper import plot
from minidareu.paper.__main__ import NAMES
from minidareu.paper.render import render, verdicts

PAPER = Path(__file__).parent.parent / "minidareu/paper"
FILES = sorted((PAPER / "results").glob("*.json"))
README = (PAPER / "README.md").read_text(encoding="utf-8")


def test_every_table_and_figure_is_there_but_what_the_page_names():
    assert {path.stem for path in FILES} == set(NAMES)
    assert "Not made: Figure 1" in README


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_table_on_the_page_is_that_of_its_file(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["name"] == path.stem and found["seeds"] == [41, 42, 43]
    assert "\n".join(render(found)).strip() in README
    assert found["verdicts"] == verdicts(found["name"], found["rows"])


def test_the_curves_of_relearning_are_its_steps_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "save", lambda figure, axes, path: drawn.append(axes[0]))
    found = json.loads((PAPER / "results/fig7.json").read_text(encoding="utf-8"))
    plot.plot_relearning(found, "nowhere.png")
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn[0].lines}
    assert list(lines) == list(found["rows"])
    for label, points in lines.items():
        assert [x for x, _ in points] == [0, 5, 10, 20, 30, 40, 50]
        assert points[2][1] == sorted(found["rows"][label]["step 10"])[1], "of three seeds"
