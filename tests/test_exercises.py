"""The solutions of the exercises: each is applied to a copy of the code, and does what it says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
EXERCISES = ROOT / "minidareu/exercises"
FLAGS = {
    "3-overlap": ["--methods", "dareu"],
    "4-grpo": ["--methods", "dareu", "--algorithm", "grpo", "--group-size", "4"],
    "6-misspelt": ["--methods", "dareu"],
    "10-lora": ["--methods", "dareu", "--rl-lr", "0.005"],
}
ATTACK = """
import sys
from pathlib import Path
from minidareu.beyond import attacks
from minidareu.beyond.finished import open_evaluator
attacks.SAMPLES, attacks.RELEARNED = 1, {}
run, models, e = open_evaluator(Path(sys.argv[1]), "cpu")
pairs = [run.pairs[r] for r in e.forget]
found = attacks.attack(models["original"], e, pairs, pairs, 0)
print(found["name misspelt"] <= found["none"])
"""


def solved(name, tmp_path):
    """A copy of the code with a solution applied."""
    for part in ("minidareu", "train.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    patch = EXERCISES / f"{name}.patch"
    subprocess.run(["git", "apply", "--whitespace=nowarn", patch], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
@pytest.mark.parametrize("name", FLAGS)
def test_a_solution_applies_and_runs(name, run, tmp_path):
    argv, original = run
    code = solved(name, tmp_path)
    command = [*argv, *FLAGS[name], "--no-curve", "--reuse", str(original), "--out", "run"]
    script = ["-c", ATTACK, original] if name == "6-misspelt" else ["train.py", *command]
    process = subprocess.run(
        [sys.executable, *script],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
    )
    if name == "6-misspelt":
        assert process.stdout.strip().endswith("True"), process.stderr
        return
    assert process.returncode == 0, process.stderr
    models = json.loads((code / "run/results.json").read_text())["models"]
    before = json.loads((original / "results.json").read_text())["models"]
    assert models["original"] == before["original"]
    assert models["dareu"]["forget"] < models["original"]["forget"], "something is forgotten"
    assert models["dareu"] != before["dareu"], "the solution is what ran"


def test_the_page_names_every_solution_and_eleven_exercises():
    text = (EXERCISES / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in EXERCISES.glob("*.patch")} == set(FLAGS)
    assert all(f"({name}.patch)" in text for name in FLAGS)
    assert [line[3:].split(".")[0] for line in text.splitlines() if line.startswith("## ")] == [
        str(i) for i in range(1, 12)
    ]
