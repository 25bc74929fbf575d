import json
import shutil
import subprocess
import sys

import pytest
import torch

from minidareu.beyond import attacks, audit
from minidareu.files import InputError
from minidareu.scores.evaluation import evaluate_fully


@pytest.fixture(scope="module")
def audited(run, tmp_path_factory):
    """A copy of the toy run, with its audit."""
    folder = tmp_path_factory.mktemp("audit")
    shutil.copytree(run[1], folder / "run")
    audit.main(["--run", str(folder / "run"), "--device", "cpu"])
    return folder


def test_what_an_audit_leaves(audited):
    found = json.loads((audited / "run/audit.json").read_text())
    models = {"original", "retrained", "dareu", "dareu_plus"}
    assert set(found["attacks"]) == set(found["relearning"]) == models
    recalls = {name: attacks["none"] for name, attacks in found["attacks"].items()}
    assert recalls["original"] > 0.8 and recalls["dareu_plus"] < recalls["original"] - 0.2
    text = (audited / "run/audit.md").read_text()
    for words in ("Fact recall under attack", "10% of the forget rows"):
        assert words in text
    assert (audited / "run/attacks.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_done_is_kept_and_another_run_is_audited_anew(audited, monkeypatch, tmp_path):
    def never(*args, **settings):
        raise AssertionError("attacked again")

    monkeypatch.setattr(attacks, "attack", never)
    argv = ["--run", str(audited / "run"), "--device", "cpu", "--out", str(tmp_path)]
    audit.main(argv)
    assert (tmp_path / "audit.md").read_text() == (audited / "run/audit.md").read_text()
    results = audited / "run/results.json"
    old = results.read_text()
    results.write_text(old.replace('"tow": 1.0', '"tow": 1.5'))
    with pytest.raises(AssertionError, match="attacked again"):
        audit.main(argv)
    results.write_text(old)


def test_leaks_are_differences_from_the_retrained_model_and_medians_over_runs():
    def made(dareu, steps):
        curves = {
            "original": [1.0, 1.0, 1.0, 1.0],
            "dareu": [0.0, 0.0, steps, 1.0],
            "retrained": [0.0, 0.1, 0.2, 0.5],
        }
        curves = {
            name: [list(point) for point in zip(attacks.SHOWN, values)]
            for name, values in curves.items()
        }
        return {
            "attacks": {
                "original": {"none": 1.0},
                "retrained": {"none": 0.1},
                "dareu": {"none": dareu},
            },
            "relearning": {name: {"retain rows": curve} for name, curve in curves.items()},
        }

    found = [made(0.1, 0.4), made(0.3, 0.4), made(0.2, 0.9)]
    lines = audit.attack_tables(found)
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("|")}
    assert "0.100 (0.000 to 0.200)" in next(line for line in lines if line.startswith("| dareu"))
    relearned = [
        cell.strip()
        for cell in [line for line in lines if line.startswith("| dareu")][1].split("|")
    ]
    # 0.8 of the original's recall and of the retrained model's highest, interpolated; the median run's.
    assert (
        relearned[-3:-1] == [f"{16 + 48 * 0.4 / 0.6:.1f}", f"{4 + 12 * 0.4 / 0.4:.1f}"]
        and relearned[4] == "0.400 (0.400 to 0.900)"
    )
    assert "| not in 64 |" in rows["retrained"]


def test_an_opened_run_is_the_one_that_was_left(run):
    finished, models, evaluator = audit.open_evaluator(run[1], "cpu")
    results = json.loads((run[1] / "results.json").read_text())["models"]
    retrained = evaluate_fully(models["retrained"], evaluator)
    for name in ("original", "dareu", "dareu_plus"):
        scores = evaluate_fully(models[name], evaluator, retrained).scores
        assert scores == pytest.approx(results[name], abs=1e-6)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda run: (run / "results.json").unlink(), "results.json: not there"),
        (
            lambda run: (run / "results.json").write_text("{"),
            "results.json: not there, or not of a finished run",
        ),
        (lambda run: (run / "dareu.pt").write_bytes(b"cut"), "dareu.pt: cut short"),
        (
            lambda run: torch.save({"model": {}}, run / "original.pt"),
            "original.pt: cut short, or not a checkpoint",
        ),
        (
            lambda run: (run / "experiment.json").write_text('{"data": "x"}'),
            "experiment.json: not there, or not of a run",
        ),
        (
            lambda run: (run / "experiment.json").write_text(
                '{"data": "x", "forget": ["Ann Lee"], "seed": 0}'
            ),
            "not the data of",
        ),
    ],
)
def test_a_broken_run_is_one_line(run, tmp_path, harm, message):
    shutil.copytree(run[1], tmp_path / "run")
    harm(tmp_path / "run")
    with pytest.raises(InputError, match=message) as e:
        audit.main(["--run", str(tmp_path / "run"), "--device", "cpu"])
    assert "\n" not in str(e.value)


def test_runs_on_several_datasets_are_refused(run, toy, tmp_path):
    other = tmp_path / "other.jsonl"
    shutil.copy(toy, other)
    shutil.copytree(run[1], tmp_path / "run")
    results = json.loads((run[1] / "results.json").read_text())
    results["config"]["data"] = str(other)
    (tmp_path / "run/results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="other data or methods"):
        audit.main(["--run", str(run[1]), str(tmp_path / "run"), "--device", "cpu"])


def test_no_traceback_for_a_run_that_is_not_there(tmp_path):
    for module, flags in (
        ("audit", ["--run", str(tmp_path)]),
        ("exact", ["--data", str(tmp_path / "nowhere.jsonl")]),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"minidareu.beyond.{module}", *flags],
            capture_output=True,
            text=True,
        )
        assert done.returncode and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr, (
            done.stderr
        )
