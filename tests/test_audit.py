import json
import shutil
import subprocess
import sys

import pytest

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
    found = json.loads((audited / "run/audit.json").read_text())["found"]
    assert set(found) == {"original", "retrained", "dareu", "dareu_plus"}
    assert found["original"]["none"] > 0.8
    assert found["dareu_plus"]["none"] < found["original"]["none"] - 0.2
    text = (audited / "run/audit.md").read_text()
    assert "| retrained |" in text and "a tenth of D_F relearned" in text


def test_what_is_done_is_kept_and_another_run_is_audited_anew(audited, monkeypatch):
    def never(*args, **settings):
        raise AssertionError("attacked again")

    monkeypatch.setattr(attacks, "attack", never)
    argv = ["--run", str(audited / "run"), "--device", "cpu"]
    before = (audited / "run/audit.md").read_text()
    audit.main(argv)
    assert (audited / "run/audit.md").read_text() == before
    results = audited / "run/results.json"
    old = results.read_text()
    results.write_text(old.replace('"tow": 1.0', '"tow": 1.5'))
    with pytest.raises(AssertionError, match="attacked again"):
        audit.main(argv)
    results.write_text(old)


def test_the_table_tells_how_much_more_than_the_retrained_model():
    found = [
        {"original": {"none": 1.0}, "retrained": {"none": floor}, "dareu": {"none": told}}
        for floor, told in ((0.1, 0.1), (0.2, 0.3), (0.1, 0.3))
    ]
    lines = audit.attack_table(found)
    assert "| retrained | 0.100 (0.100 to 0.200) |" in lines
    assert "| dareu: more than that | 0.100 (0.000 to 0.200) |" in lines


def test_an_opened_run_is_the_one_that_was_left(run):
    finished, models, evaluator = audit.open_evaluator(run[1], "cpu")
    results = json.loads((run[1] / "results.json").read_text())["models"]
    retrained = evaluate_fully(models["retrained"], evaluator)
    for name in ("original", "dareu", "dareu_plus"):
        scores = evaluate_fully(models[name], evaluator, retrained).scores
        assert scores == pytest.approx(results[name], abs=1e-6)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("results.json", "{", "results.json: not there, or not of a run"),
        ("dareu.pt", "cut", "dareu.pt: cut short"),
        ("experiment.json", '{"data": "x"}', "experiment.json: not there, or not of a run"),
        ("experiment.json", '{"data": "x", "forget": ["Ann Lee"], "seed": 0}', "not the data of"),
    ],
)
def test_a_broken_run_is_one_line(run, tmp_path, name, content, message):
    shutil.copytree(run[1], tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(InputError, match=message) as e:
        audit.main(["--run", str(tmp_path / "run"), "--device", "cpu"])
    assert "\n" not in str(e.value)


def test_no_traceback_for_a_run_that_is_not_there(tmp_path):
    command = [sys.executable, "-m", "minidareu.beyond.audit", "--run", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr
