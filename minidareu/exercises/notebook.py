"""Run algorithm1.ipynb, and keep what its cells give.

python minidareu/exercises/notebook.py            run all cells and write their outputs
python minidareu/exercises/notebook.py --check    say which functions that it shows were changed
"""

import hashlib
import importlib
import inspect
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from minidareu.run.cli import make_parser, run_main

NOTEBOOK = Path(__file__).with_name("algorithm1.ipynb")
MODULES = {"dareu": "minidareu.dareu", "rl": "minidareu.rl"}
MODULES["controls"] = "minidareu.beyond.controls"


def shown_functions(notebook):
    """{"dareu.rollout": digest of its source} of the functions whose source the cells show."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    digests = {}
    for module, name in re.findall(r"source\((\w+)\.(\w+)\)", text):
        function = getattr(importlib.import_module(MODULES[module]), name)
        digest = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
        digests[f"{module}.{name}"] = digest
    return digests


def run_cells(notebook, folder):
    """Run all cells, in place. Raises nbclient's CellExecutionError where one fails."""
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = shown_functions(notebook)
    if args.check:
        before = notebook.metadata.get("shown", {})
        for name, digest in shown.items():
            if before.get(name) != digest:
                print(f"{NOTEBOOK.name}: has outputs of an earlier {name}; run without --check")
        return
    run_cells(notebook, NOTEBOOK.parent)
    notebook.metadata["shown"] = shown
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    run_main(main, "notebook.py")
