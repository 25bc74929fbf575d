"""The rules of the house: which floor may import which, and how long a function may be."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
METHOD = sorted((ROOT / "minidareu").glob("*.py"))
ALL = sorted((ROOT / "minidareu").rglob("*.py")) + [ROOT / "train.py"]


def imports(path):
    """Modules of the package that a file imports, as dotted names below `minidareu`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""] + [alias.name for alias in node.names]
            yield from (name.removeprefix("minidareu.") for name in names)


def test_the_method_never_imports_the_upper_floors():
    for path in METHOD:
        upper = [
            name for name in imports(path) if name.split(".")[0] in ("paper", "beyond", "bench")
        ]
        assert not upper, f"{path.name} imports {upper}"


def test_metrics_do_not_import_the_algorithm_and_rl_imports_nothing_of_ours():
    forbidden = {"dareu", "baselines", "rl", "attribution"}
    assert not forbidden & set(imports(ROOT / "minidareu/metrics.py"))
    for node in ast.walk(ast.parse((ROOT / "minidareu/rl.py").read_text())):
        assert not isinstance(node, ast.ImportFrom) or node.level == 0
    text = (ROOT / "minidareu/rl.py").read_text()
    assert not any(word in text for word in ("forget", "retain", "attribution", "owner"))


def test_no_circle():
    known = {path.stem for path in METHOD}
    graph = {path.stem: set(imports(path)) & known - {path.stem} for path in METHOD}
    while graph:
        leaves = [name for name, needs in graph.items() if not needs & set(graph)]
        assert leaves, f"a circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def test_functions_and_lines_are_short():
    for path in ALL:
        text = path.read_text()
        assert max(map(len, text.splitlines()), default=0) <= 100, path
        most = 45 if path.name in ("dareu.py", "rl.py") else 60
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= most, f"{path}: {node.name} has {length} lines"
    assert len((ROOT / "minidareu/dareu.py").read_text().splitlines()) <= 260


def test_the_code_bears_the_numbers_of_algorithm_1():
    text = (ROOT / "minidareu/dareu.py").read_text()
    docstring, code = text.split('"""', 2)[1:]
    for number in range(10, 20):
        assert f"\n    {number}  " in docstring.replace("\t", " "), number
        if number != 12:
            assert f"# {number}" in code, f"no line of the code bears line {number}"
    assert "# 12, 13" in code
