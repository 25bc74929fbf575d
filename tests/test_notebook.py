"""The notebook runs from its first cell to its last, on the toy run that the tests share."""

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook's packages are not installed")
pytest.importorskip("nbclient", reason="the notebook's packages are not installed")
pytest.importorskip("ipykernel", reason="the notebook's packages are not installed")

import json
import sys
from pathlib import Path

import train

EXERCISES = Path(__file__).parent.parent / "minidareu/exercises"
sys.path.insert(0, str(EXERCISES))

import notebook as notebook_script


@pytest.fixture
def cells():
    return nbformat.read(notebook_script.NOTEBOOK, as_version=4)


def test_it_runs_from_end_to_end(cells, run, monkeypatch):
    _, folder = run
    monkeypatch.setenv("RUN", str(folder))
    notebook_script.run_cells(cells, EXERCISES)
    text = "\n".join(
        output.get("text", "") for cell in cells.cells for output in cell.get("outputs", [])
    )
    assert "DareU+" in text and "largest |R_t| with a constant attribution: 0.0" in text


def test_it_runs_without_a_retrained_model_and_with_signs_of_mathematics(
    cells, four_owners, tmp_path, monkeypatch
):
    rows = [json.loads(line) for line in four_owners.read_text().splitlines()]
    rows = [{**row, "response": row["response"] + " $$ a_b $"} for row in rows]
    data = tmp_path / "dollars.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "run"
    tiny = "--n-embd 16 --n-layer 1 --vocab-size 300 --epochs 1 --classifier-epochs 1 --n-forget 2"
    short = "--methods dareu --data-epochs 2 --plus-updates 2 --no-retrained --device cpu"
    train.main(["--data", str(data), *tiny.split(), *short.split(), "--out", str(folder)])
    monkeypatch.setenv("RUN", str(folder))
    del cells.cells[23:]  # other runs of the same kind
    notebook_script.run_cells(cells, EXERCISES)


def test_a_cell_that_fails_is_an_error(cells, tmp_path):
    from nbclient.exceptions import CellExecutionError

    del cells.cells[2:]
    cells.cells[1]["source"] = "raise ValueError('no')"
    with pytest.raises(CellExecutionError):
        notebook_script.run_cells(cells, tmp_path)


def test_it_is_short_and_kept_with_its_outputs(cells):
    assert len(cells.cells) <= 30
    codes = [cell for cell in cells.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in codes)
    pictures = [o for c in codes for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6
    longest = max(len(line) for cell in cells.cells for line in cell.source.splitlines())
    assert longest <= 120


def test_a_changed_function_is_told_and_is_no_error(capsys, monkeypatch):
    notebook_script.main(["--check"])
    before = capsys.readouterr().out
    own = notebook_script.inspect.getsource
    monkeypatch.setattr(
        notebook_script.inspect,
        "getsource",
        lambda f: own(f) + ("# mine" if f.__name__ == "transform" else ""),
    )
    notebook_script.main(["--check"])
    after = capsys.readouterr().out
    assert "dareu.transform" in after and "dareu.rollout" not in set(after.split()) - set(
        before.split()
    )
