"""Training until the rows are known."""

import math
import random

import pytest
import torch

from minidareu import pretrain
from minidareu.model import GPT, GPTConfig, Training, generate
from minidareu.pretrain import learning_rate, next_token_loss, train_lm

CONFIG = GPTConfig(vocab_size=32, block_size=16, n_layer=1, n_head=2, n_embd=32)
END = 31


def fit(rows, training):
    """A new model that has read rows, and its passes."""
    torch.manual_seed(0)
    model = GPT(CONFIG)
    return model, train_lm(model, rows, training)


def rows(n, seed=0):
    """Prompts of two tokens, no two the same, and random responses."""
    rng = random.Random(seed)
    prompts = rng.sample([[a, b] for a in range(30) for b in range(30)], n)
    return [(x, [rng.randrange(30) for _ in range(4)] + [END]) for x in prompts]


def test_rates_rise_stay_and_fall():
    rates = [learning_rate(step, 10, 60, 80) for step in range(81)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10:61] == [1.0] * 51 and rates[70] == pytest.approx(0.5) and rates[80] == 0
    assert [learning_rate(step, 1, math.inf, math.inf) for step in (0, 10**6)] == [1, 1]


def test_it_reads_until_it_knows():
    easy, hard = rows(20), rows(120)
    passes = {}
    for name, part in (("easy", easy), ("hard", hard)):
        model, passes[name] = fit(part, Training(None, 8, lr=5e-3, seed=0))
        said = generate(model, [x for x, _ in part], 8, 0, END)
        right = sum(y == z[:-1] for y, (_, z) in zip(said, part, strict=True))
        assert right >= 0.97 * len(part), name
    assert passes["easy"] < pretrain.MOST_PASSES and passes["hard"] < pretrain.MOST_PASSES
    assert passes["easy"] != passes["hard"] and passes["easy"] == int(passes["easy"])


def test_passes_that_are_given_and_those_that_are_the_most(monkeypatch):
    assert fit(rows(20), Training(3, 8, lr=1e-3, seed=0))[1] == 3
    contradiction = [([1, 2], [a, END]) for a in range(3, 23)]  # one prompt, twenty responses
    monkeypatch.setattr(pretrain, "MOST_PASSES", 13)
    _, passes = fit(contradiction, Training(None, 8, lr=1e-3, seed=0))
    assert passes == 13


def test_the_loss_is_of_all_tokens_and_known_are_those_of_responses():
    torch.manual_seed(0)
    model = GPT(CONFIG)
    part = [([1, 2, 3], [4, 5]), ([6], [7, 8, 9, END])]
    loss, known, asked = next_token_loss(model, part)
    losses, n_known = [], 0
    for x, y in part:
        ids = x + y
        for t in range(1, len(ids)):
            logits = model(torch.tensor([ids[:t]]))[0, -1]
            losses.append(-logits.log_softmax(-1)[ids[t]].item())
            n_known += t >= len(x) and logits.argmax().item() == ids[t]
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert (known, asked) == (n_known, 2 + 4)
    model, _ = fit(part, Training(60, 2, lr=1e-2, seed=0))
    assert next_token_loss(model, part)[1] == 2 + 4
