"""The README beside the code: every link of its table from equation to code, its tree, its limits."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[`([\w.]+)`\]\(([\w/.]+)#L(\d+)\)")


def test_every_link_from_equation_to_code_points_at_the_line_that_defines_the_name():
    links = LINK.findall(README)
    assert len(links) >= 15
    for name, file, line in links:
        text = (ROOT / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        name = name.split(".")[-1]
        assert re.match(rf"\s*(def|class) {name}\b|{name} = ", text), f"{file}:{line}: {text!r}"


@pytest.mark.parametrize("page", [p for p in ROOT.rglob("README.md") if ".ci" not in p.parts])
def test_links_to_files_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_tree_names_every_module_of_the_method():
    tree = README[README.index("## The code, in reading order") :].split("\n## ")[0]
    named = re.findall(r"(\w+)\.py", tree)
    there = {path.stem for path in (ROOT / "minidareu").glob("*.py")} - {"__init__"}
    assert set(named) - {"train"} == there
    seven = ["data", "tokenizer", "model", "pretrain", "attribution", "rl", "dareu"]
    assert [name for name in named if name in seven] == seven, "in reading order"
    floors = re.findall(r"minidareu/(\w+)/", tree)
    assert set(floors) == {
        p.name for p in (ROOT / "minidareu").iterdir() if p.is_dir() and p.name[0] not in "_."
    }


def test_it_can_be_read_in_one_sitting():
    assert len(README.splitlines()) <= 280


def test_a_long_text_becomes_rows_that_a_run_can_read(tmp_path):
    from minidareu.data import load_records

    page = (ROOT / "data/many/README.md").read_text(encoding="utf-8")
    scope = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], scope)
    text = " ".join(f"word{i}" for i in range(100))
    rows = list(scope["rows_of"]("Ann", text))
    assert " ".join(row["response"] for row in rows) == text[text.index("word10") :]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_records(path)) == 3
