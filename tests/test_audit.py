import json
import shutil
import subprocess
import sys

import pytest
import torch

import train
from conftest import FAST
from minidareu.beyond import attacks, audit, exact
from minidareu.files import InputError
from minidareu.scores.evaluation import evaluate_fully


SEEDS = ["--seeds", "0", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def audited(toy, tmp_path_factory):
    """A run on five of the owners, the exact models of its flags, and an audit with both."""
    folder = tmp_path_factory.mktemp("audit")
    rows = [json.loads(line) for line in toy.read_text().splitlines()]
    owners = sorted({row["owner"] for row in rows})[:5]
    five = folder / "five.jsonl"
    five.write_text("".join(json.dumps(r) + "\n" for r in rows if r["owner"] in owners))
    flags = ["--data", str(five), "--n-forget", "2", *FAST]
    train.main([*flags, "--out", str(folder / "run")])
    exact.main([*flags, "--out", str(folder / "exact")])
    audit.main(["--run", str(folder / "run"), "--exact", str(folder / "exact"), *SEEDS])
    return folder


def test_what_an_audit_leaves(audited):
    found = json.loads((audited / "run/audit.json").read_text())
    models = {"original", "retrained", "dareu", "dareu_plus"}
    assert set(found["attacks"]) == set(found["relearning"]) == models
    recalls = {name: attacks["none"] for name, attacks in found["attacks"].items()}
    assert recalls["original"] > 0.8 and recalls["dareu_plus"] < recalls["original"] - 0.2
    proxy = found["proxy"]
    points = [proxy["agreement"][f"DareU+, update {i}"] for i in (1, 2, 4, 8, 16, 32, 60)]
    assert len(proxy["agreement"]) == 3 + len(points)
    assert proxy["agreement"]["DareU+, all of these"]["spearman"]["classifier"] > 0.1
    assert points[-1]["mean"]["exact"] < points[0]["mean"]["exact"]
    truth = proxy["probes"]["the truth"]
    assert truth["classifier"] > 0.5
    assert truth["exact"] > proxy["probes"]["words of retain responses, shuffled"]["exact"]
    assert set(truth) == {"exact", "classifier", "judge"}
    assert "the truth under another name" not in proxy["probes"], "no answer names its owner"
    assert 0 <= proxy["calibration_error"] <= 1
    assert len(proxy["owners"]["classifier"]) == len(proxy["owners"]["exact"]) == 5
    assert set(proxy["owners"]["agreement"]) == set(proxy["agreement"]) - {"DareU+, all of these"}
    text = (audited / "run/audit.md").read_text()
    for words in ("Fact recall under attack", "10% of the forget rows", "Owner by owner"):
        assert words in text
    for name in ("attacks.png", "proxy.png"):
        assert (audited / "run" / name).read_bytes()[:4] == b"\x89PNG"


def test_what_is_done_is_kept_and_another_run_is_audited_anew(audited, monkeypatch, tmp_path):
    def never(*args, **settings):
        raise AssertionError("attacked again")

    monkeypatch.setattr(attacks, "attack", never)
    argv = ["--run", str(audited / "run"), "--exact", str(audited / "exact"), *SEEDS]
    argv += ["--out", str(tmp_path)]
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
        agreement = {
            "spearman": {"classifier": 0.5, "judge": 0.25, "another seed": 0.7},
            "owes": 0.2,
            "auc": {"classifier": 0.9, "judge": None},
        }
        return {
            "attacks": {
                "original": {"none": 1.0},
                "retrained": {"none": 0.1},
                "dareu": {"none": dareu},
            },
            "relearning": {name: {"retain rows": curve} for name, curve in curves.items()},
            "proxy": {
                "agreement": {"training responses": agreement},
                "calibration_error": 0.1,
                "probes": {},
            },
        }

    found = [made(0.1, 0.4), made(0.3, 0.4), made(0.2, 0.9)]
    lines = audit.attack_tables(found) + audit.proxy_tables(found)
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
    assert "| not in 64 |" in rows["retrained"] and "| - |" in rows["training responses"]


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


def test_a_missing_exact_model_is_named(audited, tmp_path):
    shutil.copytree(audited / "exact", tmp_path / "exact")
    (tmp_path / "exact/seed0/without-3.pt").unlink()
    with pytest.raises(InputError, match="without-3.pt"):
        audit.main(["--run", str(audited / "run"), "--exact", str(tmp_path / "exact"), *SEEDS])


@pytest.mark.parametrize("name", ["seed0/without-2.pt", "seed1/original.pt"])
def test_exact_models_of_another_run_are_refused(audited, tmp_path, name):
    """Each carries the key of its data, split, flags and code, wherever it is read."""
    shutil.copytree(audited / "exact", tmp_path / "exact")
    path = tmp_path / "exact" / name
    torch.save({**torch.load(path), "key": "of another split"}, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"{name}: is of other data, another split"):
        audit.main(["--run", str(audited / "run"), "--exact", str(tmp_path / "exact"), *SEEDS])
    assert path.read_bytes() == before, "it is not made anew in its place"


def test_a_run_of_other_flags_refuses_the_models(audited, run, tmp_path):
    shutil.copytree(run[1], tmp_path / "run")
    with pytest.raises(InputError, match="original.pt: is of other data"):
        audit.main(["--run", str(tmp_path / "run"), "--exact", str(audited / "exact"), *SEEDS])


def test_another_folder_of_exact_models_is_read_anew(audited, monkeypatch):
    """What an earlier --exact gave is not the answer for this one."""
    asked = []
    answer = audit.proxy_quality
    monkeypatch.setattr(audit, "proxy_quality", lambda *a: asked.append(1) or answer(*a))
    before = (audited / "run/audit.json").read_text()
    argv = ["--run", str(audited / "run"), "--exact"]
    audit.main([*argv, str(audited / "exact"), *SEEDS])
    assert not asked
    shutil.copytree(audited / "exact", audited / "again")
    (audited / "again/exact.json").unlink()
    audit.main([*argv, str(audited / "again"), *SEEDS])
    assert len(asked) == 1
    assert "owners" not in json.loads((audited / "run/audit.json").read_text())["proxy"]
    (audited / "run/audit.json").write_text(before)


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
