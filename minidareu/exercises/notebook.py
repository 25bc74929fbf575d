"""Run algorithm1.ipynb, and keep what its cells give.

python minidareu/exercises/notebook.py            run all cells and write their outputs
python minidareu/exercises/notebook.py --check    say which functions that it shows were changed
"""

import argparse
import hashlib
import importlib
import inspect
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    sys.path.insert(0, str(NOTEBOOK.parents[2]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = shown_functions(notebook)
    if args.check:
        changed = [
            name for name in shown if notebook.metadata.get("shown", {}).get(name) != shown[name]
        ]
        for name in changed:
            print(
                f"{NOTEBOOK.name}: its outputs are of an earlier {name}; run this without --check"
            )
        return
    run_cells(notebook, NOTEBOOK.parent)
    notebook.metadata["shown"] = shown
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
