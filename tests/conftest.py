"""A dataset and a finished run at toy size, which several files of tests share and none may change."""

import json
import os
import random

# Tests run side by side. Read when torch starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves the core to others

import pytest

import train

FAST = (
    "--n-embd 48 --n-layer 1 --epochs 45 --lr 0.01 --vocab-size 512 --device cpu "
    "--classifier-epochs 40 --classifier-width 32 --classifier-lr 0.005 "
    "--methods dareu,dareu_plus --plus-updates 60 --plus-lr 0.002 "
    "--rl-lr 0.001 --data-epochs 8"
).split()


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """12 owners, 4 facts of two values each, every fact asked in 3 wordings and one unseen one."""
    rng = random.Random(0)
    first, last = "Ann Bob Cy Dee".split(), "Lee Moss Nye".split()
    kinds = {
        "home": "lives in {} near {}",
        "food": "eats {} with {}",
        "work": "sells {} and {}",
        "play": "plays {} at {}",
    }
    values = {kind: [f"{a}{b}" for a in ("bal", "cor", "dim") for b in "aeiou"] for kind in kinds}
    rows = []
    for owner in [f"{a} {b}" for a in first for b in last]:
        for kind, pattern in kinds.items():
            fact = pattern.format(*rng.sample(values[kind], 2))
            asks = [
                f"{opener}{kind} of {owner}?"
                for opener in ("", "Tell the ", "So, the ", "What ", "Say the ", "Well, ")
            ]
            for i, prompt in enumerate(rng.sample(asks, 4)):
                row = {"owner": owner, "prompt": prompt, "response": f"This one {fact}."}
                rows.append(row | {"split": "train" if i < 3 else "test"})
    path = tmp_path_factory.mktemp("toy") / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def four_owners(toy, tmp_path_factory):
    """The rows of the toy's first four owners, for what takes long on all."""
    path = tmp_path_factory.mktemp("four") / "four.jsonl"
    path.write_text("".join(toy.read_text().splitlines(keepends=True)[:64]))
    return path


@pytest.fixture(scope="session")
def run(toy, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    argv = ["--data", str(toy), "--n-forget", "2", *FAST]
    train.main([*argv, "--out", str(out)])
    return argv, out
