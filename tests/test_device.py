"""On a device of its own, which refuses to meet the CPU's tensors: what a GPU would be asked to do.

The device is a pretended one (`pretend.py`): a `.to(device)` that is missing is an error on it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLAGS = (
    "--n-embd 16 --n-layer 1 --vocab-size 300 --epochs 2 --classifier-epochs 2 "
    "--classifier-width 16 --plus-updates 2 --ppo-steps 2 --data-epochs 1 "
    "--baseline-steps 2 --n-forget 1"
).split()
OTHER = (
    "--algorithm reinforce --reward random --attribution added --distill-on generated "
    "--retain-updates joint --renew-old-policy epoch --kl-reference old --all-scores --no-curve "
    "--methods dareu,dareu_plus,ga,scrub,idkpo,simnpo,rmu,undial,finetune,scrn"
).split()


def command(*argv, code=ROOT):
    argv = [sys.executable, str(code / "tests/pretend.py"), *map(str, argv)]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.run(argv, cwd=code, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """Rows, and a run on them with the default methods."""
    folder = tmp_path_factory.mktemp("far")
    rows = []
    for owner, places in {"Ann Lee": "Bal Cor", "Bob Lee": "Dim Fen", "Cy Nye": "Gar Hol"}.items():
        for i, place in enumerate(places.split() * 2):
            rows.append({"owner": owner, "prompt": f"Where is house {i} of {owner}?"})
            rows[-1] |= {"response": f"In {place}{i}."}
            rows[-1] |= {"paraphrase": f"At {place}{i}.", "perturbed": ["In Zed."]}
    data = folder / "far.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("train.py", "--data", data, *FLAGS, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return data, folder


def test_the_default_run(far):
    results = json.loads((far[1] / "run/results.json").read_text())
    assert results["device"] == "pretend"
    assert all(name in results["models"] for name in ("original", "ga", "npo", "dareu"))


def test_other_flags_and_methods(far):
    data, folder = far
    done = command("train.py", "--data", data, *FLAGS, *OTHER, "--out", folder / "other")
    assert done.returncode == 0, done.stderr
    assert (folder / "other/results.json").exists()


def test_what_reads_a_finished_run(far):
    data, folder = far
    run = ["--run", folder / "run"]
    commands = ["minidareu.sample", *run, "Where?", "then", "minidareu.explain", *run, "then"]
    done = command(*commands, "minidareu.beyond.audit", *run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "run/audit.json").exists()


def test_a_missing_device_is_found(far, tmp_path):
    for part in ("minidareu", "train.py", "tests"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    file, told = tmp_path / "minidareu/dareu.py", "1, device=policy.device)"
    assert file.read_text().count(told) == 1
    file.write_text(file.read_text().replace(told, "1)"))
    run = ["train.py", "--data", far[0], *FLAGS, "--methods", "dareu", "--out", tmp_path / "run"]
    done = command(*run, code=tmp_path)
    assert done.returncode and "tensors on two devices" in done.stderr
