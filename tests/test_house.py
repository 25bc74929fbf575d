"""The rules of the house: which floor may import which, and how long files and functions may be."""

import ast
import importlib
from collections import Counter
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minidareu"
METHOD = sorted(PACKAGE.glob("*.py"))
ALL = sorted(PACKAGE.rglob("*.py")) + [ROOT / "train.py"]
SEVEN = ["data", "tokenizer", "model", "pretrain", "attribution", "rl", "dareu"]
# What each floor may import beside itself; the method is the lowest.
BELOW = {
    "": [],
    "scores": [""],
    "run": [""],
    "report": ["", "scores", "run"],
    "beyond": ["", "scores", "run", "report"],
    "paper": ["", "scores", "run", "report", "beyond"],
    "explain": ["", "scores", "run", "report", "beyond"],
    "exercises": ["", "scores", "run", "report", "beyond"],
    "llm": ["", "scores", "run", "report", "beyond"],
}


def imported(source, package):
    """Names of modules that a source text imports, relative ones made absolute."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def dotted(path):
    """A file of the package as a dotted name below it."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """Files of the package that a file imports, as dotted names below it."""
    package = ".".join(["minidareu", *path.parent.relative_to(PACKAGE).parts])
    source = path.read_text(encoding="utf-8")
    names = {name.removeprefix("minidareu.") for name in imported(source, package)}
    return names & {dotted(other) for other in ALL[:-1]}


def floor(name):
    return name.rpartition(".")[0]


def test_arrows_point_down():
    for path in ALL[:-1]:
        name = dotted(path)
        if name == "sample":
            continue  # a command, which opens a finished run
        for other in imports(path):
            allowed = [floor(name), *BELOW[floor(name)]]
            if floor(name) == "run" and other == "beyond.dareu_plus":
                continue  # a method, whose settings are flags
            assert floor(other) in allowed, f"{name} imports {other}"
    assert {floor(name) for name in imports(PACKAGE / "beyond/dareu_plus.py")} == {""}


@pytest.mark.parametrize(
    "name",
    [
        "pretrain",
        "attribution",
        "dareu",
        "baselines",
        "newton",
        "beyond/dareu_plus",
        "beyond/controls",
    ],
)
def test_a_module_names_all_source_that_its_stage_runs_through(name):
    """SOURCES: the module, and all that it imports, one through another."""
    found, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += [other.replace(".", "/") for other in imports(PACKAGE / f"{module}.py")]
    sources = importlib.import_module(f"minidareu.{name.replace('/', '.')}").SOURCES
    assert sorted(sources) == sources and set(sources) == found


def test_metrics_do_not_import_the_algorithm_and_rl_imports_nothing_of_ours():
    assert imports(PACKAGE / "metrics.py") <= {"data"} and not imports(PACKAGE / "rl.py")
    text = (PACKAGE / "rl.py").read_text()
    assert not any(word in text for word in ("forget", "retain", "attribution", "owner"))
    assert {"rl", "data", "model"} == imports(PACKAGE / "dareu.py")
    assert not imports(PACKAGE / "files.py")


def test_no_circle():
    graph = {dotted(path): imports(path) for path in ALL[:-1]}
    while graph:
        leaves = [name for name, needs in graph.items() if not needs & set(graph) - {name}]
        assert leaves, f"a circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def test_a_name_for_each_file_and_class():
    shared = ("__init__", "__main__", "plot")
    files = Counter(path.stem for path in ALL if path.stem not in shared)
    classes = Counter(
        node.name
        for path in ALL
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, n in (files + classes).items() if n > 1] == []


def test_the_method_stands_alone():
    assert len(METHOD) <= 13
    lengths = {path.stem: len(path.read_text().splitlines()) for path in METHOD}
    assert sum(lengths[name] for name in SEVEN) <= 1250
    assert lengths["dareu"] <= 330


def test_functions_and_lines_are_short():
    for path in ALL:
        text = path.read_text()
        assert max(map(len, text.splitlines()), default=0) <= 100, path
        most = 45 if path.name in ("dareu.py", "rl.py") else 60
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= most, f"{path}: {node.name} has {length} lines"


def test_public_functions_of_the_method_have_types():
    for path in METHOD:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and path.stem in [*SEVEN, "baselines", "newton"]:
                arguments = node.args.args + node.args.kwonlyargs
                bare = [a.arg for a in arguments if a.annotation is None]
                assert not bare, f"{path.name}: {node.name}: {bare}"
                assert node.returns is not None, f"{path.name}: {node.name}"


def test_the_code_bears_the_numbers_of_algorithm_1():
    text = (PACKAGE / "dareu.py").read_text()
    docstring, code = text.split('"""', 2)[1:]
    for number in range(10, 20):
        assert f"\n    {number}  " in docstring.replace("\t", " "), number
        if number != 12:
            assert f"# {number}" in code, f"no line of the code bears line {number}"
    assert "# 12, 13" in code
