"""An edited source file makes its stage run again, and no other."""

import functools
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import train
from conftest import FAST
from minidareu import baselines, dareu
from minidareu.attribution import train_classifier
from minidareu.beyond import dareu_plus
from minidareu.pretrain import train_lm
from minidareu.run.source import source_digest, source_files

ROOT = Path(__file__).parent.parent
KEPT = "kept from an earlier run"
STAGES = ["original model", "retrained model", "classifier", "dareu"]
STAGES += ["dareu_plus"]


def modules(function):
    names = {name.removeprefix("minidareu.") for name in source_files(function.__module__)}
    return names - {"minidareu", "beyond", "run"}  # the packages themselves, which are empty


def test_the_modules_of_each_stage():
    low = {"data", "files", "model"}
    assert modules(train_lm) == {"pretrain", *low}
    assert modules(train_classifier) == {"attribution", "pretrain", *low}
    assert modules(dareu.unlearn) == {"dareu", "rl", *low}
    assert modules(dareu_plus.unlearn) == {"beyond.dareu_plus", "dareu", "rl", *low}
    everywhere = modules(train_lm) | modules(dareu.unlearn) | modules(baselines.cross_entropy)
    assert not any(name.split(".")[0] in ("scores", "report", "run") for name in everywhere)


def test_a_method_whose_source_can_not_be_known_has_no_digest():
    beta = 0.1
    assert source_digest(baselines.ga) and source_digest(baselines.ga, baselines.cross_entropy)
    assert source_digest(baselines.ga) != source_digest(baselines.npo)
    assert source_digest(lambda p, o, b: baselines.ga(p, o, b)) is None
    assert source_digest(functools.partial(baselines.npo, beta=1.0)) is None

    def closure(policy, original, batches):
        return beta * baselines.ga(policy, original, batches)

    assert source_digest(closure) is None
    namespace = {"__name__": "typed_in"}
    exec("def typed(policy, original, batches): return 0", namespace)
    assert source_digest(namespace["typed"]) is None


def test_a_users_own_modules_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_helper.py").write_text("SCALE = 1\n")
    code = "import my_helper\nimport numpy\ndef mine(p, o, b):\n    return my_helper.SCALE\n"
    (tmp_path / "my_method.py").write_text(code)
    mine = importlib.import_module("my_method").mine
    assert set(source_files("my_method")) == {"my_method", "my_helper"}, "not numpy's"
    before = source_digest(mine)
    (tmp_path / "my_helper.py").write_text("SCALE = 2\n")
    assert source_digest(mine) != before


TINY = "--epochs 1 --classifier-epochs 1 --plus-updates 1 --ppo-steps 1 --data-epochs 1"


@pytest.fixture(scope="module")
def flags(four_owners):
    """Of a tiny run."""
    return ["--data", str(four_owners), "--n-forget", "2", *FAST, *TINY.split(), "--no-curve"]


def kept_in(printed):
    return [line.split(":")[0] for line in printed.splitlines() if KEPT in line]


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    train.main([*flags, "--out", str(out)])
    return out


@pytest.mark.parametrize(
    "edited, kept",
    [
        ("metrics.py", STAGES),
        ("report/written.py", STAGES),
        ("report/plot.py", STAGES),
        ("rl.py", STAGES[:3]),
        ("dareu.py", STAGES[:3]),
        ("beyond/dareu_plus.py", STAGES[:4]),
        ("attribution.py", STAGES[:2]),
        ("pretrain.py", []),
        ("tokenizer.py", []),
        ("model.py", []),
    ],
)
def test_an_edit_runs_what_depends_on_it_again(
    flags, finished, tmp_path, monkeypatch, capsys, edited, kept
):
    """The file reads as if it had one more line."""
    shutil.copytree(finished, tmp_path / "run")
    file, read = ROOT / "minidareu" / edited, Path.read_bytes
    assert file.exists()
    more = {file: b"# edited\n"}
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + more.get(path, b""))
    train.main([*flags, "--out", str(tmp_path / "run")])
    assert kept_in(capsys.readouterr().out) == kept


@pytest.fixture(scope="module")
def copy(flags, tmp_path_factory):
    """A copy of the project, and the command of a tiny run in it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "minidareu", folder / "minidareu")
    shutil.copy(ROOT / "train.py", folder)
    command = [sys.executable, "train.py", *flags, "--out", "run"]

    def run():
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return kept_in(process.stdout)

    assert run() == [] and run() == STAGES
    return folder, run


def test_an_edited_call_of_a_method_shows(copy):
    folder, run = copy
    text = (folder / "train.py").read_text()
    changed = text.replace("task = make_task(", "task =  make_task(")
    assert changed != text
    (folder / "train.py").write_text(changed)
    assert run() == STAGES[:3]


def test_an_edited_metric_shows(copy):
    folder, run = copy
    path = folder / "minidareu/metrics.py"
    text = path.read_text()
    changed = text.replace("return lcs[-1] / max", "return 0.5 * lcs[-1] / max")
    assert changed != text
    before = json.loads((folder / "run/results.json").read_text())["models"]
    path.write_text(changed)
    with open(folder / "train.py", "a") as file:
        file.write("# A comment at the end, beside the functions that make the stages.\n")
    assert run() == STAGES
    after = json.loads((folder / "run/results.json").read_text())["models"]
    for name, scores in after.items():
        assert scores["forget"] == pytest.approx(before[name]["forget"] / 2)
    log = [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]
    last = [row for row in log if row["method"] == "dareu"][-1]
    assert last["scores"]["forget"] == after["dareu"]["forget"]
    path.write_text(text)
