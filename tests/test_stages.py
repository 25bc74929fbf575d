"""What is kept, and what is made again: by data, settings, weights and source."""

import importlib
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

import train
from conftest import FAST
from minidareu import baselines, dareu
from minidareu.baselines import LossMethod, LossConfig
from minidareu.beyond import dareu_plus
from minidareu.beyond.controls import controlled
from minidareu.dareu import DareUConfig
from minidareu.run.flags import Config
from minidareu.run.stages import fingerprint, settings_of

ROOT = Path(__file__).parent.parent
KEPT = "kept from an earlier run"
STAGES = ["original", "retrained", "classifier", "dareu", "dareu_plus"]
TINY = "--epochs 1 --classifier-epochs 1 --plus-updates 1 --ppo-steps 1 --data-epochs 1"


def test_a_fingerprint_differs_where_a_value_does():
    values = [
        [1, "a"],
        [1, "b"],
        Config(),
        Config(kl_coef=0.2),
        baselines.ga,
        baselines.npo,
        partial(baselines.npo, beta=0.1),
        partial(baselines.npo, beta=1.0),
        LossMethod(baselines.ga, lr=1e-3, passes=1),
        LossMethod(baselines.ga, lr=1e-3, passes=2),
        LossMethod(baselines.npo, lr=1e-3, passes=1),
        dareu.unlearn,
        dareu_plus.unlearn,
        controlled(baselines.ga, "constant"),
        controlled(baselines.ga, "random"),
    ]
    digests = [fingerprint(value) for value in values]
    assert None not in digests and len(set(digests)) == len(values)
    assert digests == [fingerprint(value) for value in values]


def test_what_has_no_source_of_its_own_is_never_kept():
    beta = 0.1

    def closure(policy, original, batches):
        return beta * baselines.ga(policy, original, batches)

    namespace = {"__name__": "typed_in"}
    exec("def typed(policy, original, batches): return 0", namespace)
    for loss in (lambda p, o, b: baselines.ga(p, o, b), closure, namespace["typed"]):
        assert fingerprint(LossMethod(loss, lr=1e-3, passes=1)) is None


def test_the_settings_of_a_method_are_those_of_its_annotation():
    config = Config(kl_coef=0.7, baseline_lr=0.5, out="here")
    of_dareu = settings_of(dareu.unlearn, config)
    assert of_dareu["kl_coef"] == 0.7 and "baseline_lr" not in of_dareu
    assert set(of_dareu) == set(DareUConfig.__dataclass_fields__)
    assert set(settings_of(baselines.METHODS["ga"], config)) == set(LossConfig.__dataclass_fields__)

    def mine(policy, task, config):
        yield {"step": 1}

    without = settings_of(mine, config)
    assert {"kl_coef", "baseline_lr", "seed"} <= set(without) and "out" not in without


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
        ("tokenizer.py", STAGES),  # its ids are the same
        ("dareu.py", STAGES[:3]),
        ("beyond/dareu_plus.py", STAGES[:4]),
        ("attribution.py", STAGES[:2]),
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


def test_what_is_kept_has_the_same_log_and_curve(flags, tmp_path, capsys):
    """The policy is as it was at each update that is scored."""
    more = ["--curve", "--data-epochs", "8", "--methods", "dareu", "--out", str(tmp_path / "run")]
    train.main([*flags, *more])
    log = (tmp_path / "run/log.jsonl").read_text()
    assert log.count('"scores"') == 2
    train.main([*flags, *more])
    assert kept_in(capsys.readouterr().out) == STAGES[:4]
    assert (tmp_path / "run/log.jsonl").read_text() == log


def test_a_method_of_ones_own_is_made_again_when_its_file_is_edited(
    flags, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(tmp_path))
    code = (
        "def unlearn(policy, task, config):\n"
        "    for step in range(1, 3):\n"
        "        policy.wte.weight.data += {}\n"
        "        yield {{'step': step}}\n"
    )
    argv = [*flags, "--methods", "mine", "--reuse", str(finished), "--out", str(tmp_path / "run")]
    scores = []
    for number in (0.01, 0.01, 0.025):
        (tmp_path / "mine.py").write_text(code.format(number))
        importlib.invalidate_caches()
        sys.modules.pop("mine", None)
        mine = importlib.import_module("mine")
        monkeypatch.setitem(train.METHODS, "mine", mine.unlearn)
        train.main(argv)
        scores.append("mine" in kept_in(capsys.readouterr().out))
    assert scores == [False, True, False]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2]
