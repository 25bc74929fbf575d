import random
import subprocess
import sys

import pytest
import torch

from minidareu.bench import __main__ as bench
from minidareu.bench import growth
from minidareu.data import load_records, shuffled_batches
from minidareu.files import InputError
from minidareu.model import GPT, GPTConfig, generate
from minidareu.run.pool import ROOT

peers = pytest.importorskip("minidareu.bench.peers")
speed = pytest.importorskip("minidareu.bench.speed")


def test_what_is_timed_takes_turns():
    calls = []
    seconds = speed.in_turn(lambda: calls.append("a"), lambda: calls.append("b"), 3)
    assert calls == ["a", "b"] * 4  # the first pair warms up
    assert len(seconds) == 3 and all(a >= 0 and b >= 0 for a, b in seconds)


def test_the_table_beside_peers(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "WIDTHS", [16])
    monkeypatch.setattr(speed, "BATCHES", [2])
    monkeypatch.setattr(speed, "N_ROWS", 32)
    monkeypatch.setattr(speed, "train_lm", lambda *rest, **more: 2)
    bench.main(["--device", "cpu", "--repeats", "1", "--out", str(tmp_path)])
    text = (tmp_path / "peers.md").read_text()
    assert "training, width 16" in text and "generation, batch 2" in text


def test_tokens_of_a_response_are_counted_up_to_its_end():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=6, block_size=40, n_layer=1, n_head=2, n_embd=8))
    peer, prompts = peers.gpt2_of(model).eval(), [[1, 2], [3], [4, 1, 2]]
    greedy = generate(model, prompts, 12, 0, 5)
    own = sum(min(len(y) + 1, 12) for y in greedy)
    assert peers.sample(peer, prompts, 12, temperature=1e-6, eos_id=5) == own


def test_a_plain_loop_learns_what_ours_learns():
    rows = [[1, 2, 3, 4, 5]] * 64
    peer = peers.gpt2_of(GPT(GPTConfig(vocab_size=8, block_size=8, n_layer=1, n_embd=16)))
    batches = shuffled_batches(rows, 8, random.Random(0))
    assert sum(map(len, batches)) == 64
    for _ in range(5):
        peers.train_epoch(peer, batches, lr=1e-2)
    assert peer(torch.tensor([[1, 2, 3, 4]])).logits.argmax(dim=-1).tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize("n_owners", [10, 160])
def test_authors_of_any_number(n_owners, tmp_path):
    path = growth.dataset(n_owners, tmp_path)
    records = load_records(path)
    train = [r for r in records if r.split == "train"]
    assert len({r.owner for r in records}) == n_owners
    assert len(train) == 32 * n_owners and len(records) == 40 * n_owners


def test_the_table_of_the_cost(tmp_path, monkeypatch):
    def made_up(jobs, workers):
        found = {}
        for n_owners, n_forget, seed in jobs:
            seconds = {"retrained": n_owners, "dareu": 2.0 + seed, "dareu_plus": 1.0}
            models = {"dareu": {"tow": 0.9}, "dareu_plus": {"tow": 0.8}}
            found[n_owners, n_forget, seed] = {"seconds": seconds, "models": models}
        return found

    monkeypatch.setattr(growth, "run_all", made_up)
    head, lines, figures = growth.growth(tmp_path, n_seeds=2)
    assert [line[:3] for line in lines[:2]] == [
        ["10", "2", "10.000 (10.000 to 10.000)"],
        ["20", "2", "20.000 (20.000 to 20.000)"],
    ]
    assert all(len(line) == len(head) for line in lines)
    assert lines[0][head.index("DareU of retraining")] == "0.250 (0.200 to 0.300)"
    assert len(figures) == 9


def test_too_many_authors_are_one_line(tmp_path):
    script = ROOT / "data/authors/prepare.py"
    command = [sys.executable, script, "--owners", "161", "--out", tmp_path / "x.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "161" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_part_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="peers"):
        bench.main(["speed", "--out", str(tmp_path)])


def test_the_peak_of_memory_grows_by_what_is_held():
    from minidareu.run.cost import peak_memory, reset_peak_memory

    reset_peak_memory()
    before = peak_memory()
    if before is None:
        pytest.skip("not known on this system")
    held = torch.ones(50_000_000)  # 200 MB
    assert 150 < peak_memory() - before < 300
    del held
    reset_peak_memory()
    assert peak_memory() < before + 100
