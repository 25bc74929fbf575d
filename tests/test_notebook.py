"""The notebook runs from its first cell to its last, on the toy run that the tests share."""

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook's packages are not installed")
nbclient = pytest.importorskip("nbclient", reason="the notebook's packages are not installed")
pytest.importorskip("ipykernel", reason="the notebook's packages are not installed")

import inspect
import re
from pathlib import Path


from minidareu import dareu, rl
from minidareu.beyond import controls

NOTEBOOK = Path(__file__).parent.parent / "minidareu/exercises/algorithm1.ipynb"


@pytest.fixture
def cells():
    return nbformat.read(NOTEBOOK, as_version=4)


def run_cells(cells):
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(cells, timeout=600, resources=resources).execute()


def test_it_runs_from_end_to_end(cells, run, monkeypatch):
    _, folder = run
    monkeypatch.setenv("RUN", str(folder))
    run_cells(cells)
    text = "\n".join(
        output.get("text", "") for cell in cells.cells for output in cell.get("outputs", [])
    )
    assert "DareU+" in text and "largest |R_t| with a constant attribution: 0.0" in text


def test_it_is_short_and_kept_with_its_outputs(cells):
    assert len(cells.cells) <= 30
    codes = [cell for cell in cells.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in codes)
    pictures = [o for c in codes for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6
    longest = max(len(line) for cell in cells.cells for line in cell.source.splitlines())
    assert longest <= 120


def test_the_source_that_it_shows_is_what_the_functions_are_now(cells):
    """Else run it anew: `jupyter execute --inplace minidareu/exercises/algorithm1.ipynb`."""
    modules = {"dareu": dareu, "rl": rl, "controls": controls}
    n_shown = 0
    for cell in cells.cells:
        outputs = [o.data for o in cell.get("outputs", []) if "data" in o]
        shown = "".join(data.get("text/markdown", "") for data in outputs)
        for module, name in re.findall(r"source\((\w+)\.(\w+)\)", cell.source):
            assert inspect.getsource(getattr(modules[module], name)).strip() in shown, name
            n_shown += 1
    assert n_shown >= 6
