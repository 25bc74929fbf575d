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


def copied(tmp_path):
    """A copy of the code, and how to run it."""
    for part in ("minidareu", "train.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*argv):
        command = [sys.executable, *map(str, argv)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return tmp_path, run


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
@pytest.mark.parametrize("name", FLAGS)
def test_a_solution_applies_and_runs(name, run, tmp_path):
    argv, original = run
    code, python = copied(tmp_path)
    patch = EXERCISES / f"{name}.patch"
    subprocess.run(["git", "apply", "--whitespace=nowarn", patch], cwd=code, check=True)
    command = [*argv, *FLAGS[name], "--no-curve", "--reuse", str(original), "--out", "run"]
    process = python(
        *(["-c", ATTACK, original] if name == "6-misspelt" else ["train.py", *command])
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


def test_a_changed_reward_beside_the_old_one_as_the_readme_has_it(run, tmp_path):
    argv, original = run
    code, python = copied(tmp_path)
    file, told = code / "minidareu/dareu.py", "    return (prefix_mean - kl_coef * kl) * mask\n"
    assert file.read_text().count(told) == 1
    file.write_text(file.read_text().replace(told, told.replace("prefix_mean", "scores")))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = readme.split("**A reward**")[1].split("```")[1].splitlines()[1:]
    words = [line.replace("runs/authors-seed0", str(original)).split()[1:] for line in lines]
    words[0] += [*argv, "--methods", "dareu"]  # the toy's flags; the last methods count
    made, compared = (python(*command) for command in words)
    assert made.returncode == 0 and made.stdout.count("kept from an earlier run") == 3, made.stderr
    assert "answers differ" in compared.stdout and (code / "runs/mine/compare.png").exists()


def test_the_page_names_every_solution_and_eleven_exercises():
    text = (EXERCISES / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in EXERCISES.glob("*.patch")} == set(FLAGS)
    assert all(f"({name}.patch)" in text for name in FLAGS)
    assert [line[3:].split(".")[0] for line in text.splitlines() if line.startswith("## ")] == [
        str(i) for i in range(1, 12)
    ]
