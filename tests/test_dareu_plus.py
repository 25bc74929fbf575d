"""DareU+: its classifier, its reward, and what it does on a known attribution."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from minidareu.beyond import dareu_plus
from minidareu.beyond.controls import controlled
from minidareu.beyond.dareu_plus import Start, beginning, evidence, position_mean
from minidareu.beyond.dareu_plus import token_returns
from minidareu.run.flags import Config
from minidareu.model import GPT, GPTConfig, pack
from test_dareu import EOS, FORGET, LIMITS, RETAIN, even, task


def test_evidence_and_returns_by_hand():
    attribution = torch.tensor([[0.05, 0.5, 0.01, 1.0], [0.05, 0.9, 1e-9, 0.2]])
    level = evidence(attribution)
    prior = math.log(0.05 / 0.95)
    expected = [
        [0, 0 - prior, 0, math.log(0.9999 / 0.0001) - prior],
        [0, math.log(9) - prior, 0, math.log(0.25) - prior],
    ]
    assert torch.allclose(level, torch.tensor(expected), atol=1e-3)
    assert (evidence(torch.full((2, 5), 0.5)) == 0).all(), "a constant is no evidence"
    assert evidence(torch.tensor([[0.0, 1.0], [1.0, 0.5]])).isfinite().all()

    log_ratio = torch.tensor([[1.0, -0.5, 0.25], [0.0, 2.0, 0.0]])
    returns = token_returns(level, log_ratio, 0.1)
    for b in range(2):
        for t in range(3):
            to_come = max(expected[b][t:]) - expected[b][t]
            R = -to_come - 0.1 * log_ratio[b, t:].sum().item()
            assert returns[b, t].item() == pytest.approx(R, abs=1e-3)
    assert returns[1, 0] < -5, "a fact costs what led to it, though the end contradicts it"
    mask = torch.tensor([[1.0, 1, 0], [0, 1, 0]])
    mean = position_mean(returns, mask)
    assert mean.tolist() == pytest.approx(
        [returns[0, 0].item(), returns[:, 1].mean().item(), 0.0], abs=1e-6
    )


def test_half_of_the_responses_begin_with_the_original_models_answer_cut_anywhere():
    rng, answer = random.Random(0), [7, 8, 9]
    cuts = [beginning(answer, 0.5, rng) for _ in range(4000)]
    assert all(cut == answer[: len(cut)] for cut in cuts)
    n = Counter(map(len, cuts))
    assert not any(beginning(answer, 0.0, rng) for _ in range(100))
    assert n[0] / 4000 == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    assert all(n[k] / 4000 == pytest.approx(0.5 / 4, abs=0.03) for k in (1, 2, 3))


def test_only_what_the_policy_adds_is_trained_on_and_is_read_after_its_beginning(monkeypatch):
    """Tokens of a beginning have no advantage; the attribution reads beginning and response."""
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 16, 1, 2, 16))
    c = replace(Config(), plus_lr=0.01)
    learner = dareu_plus.make_plus_learner(policy, c)
    asked = []

    def attribute(prompts, responses, owners):
        asked.extend(zip(prompts, responses, owners, strict=True))
        return even(prompts, responses) + 0.1

    starts = [Start([1, 2], 0, []), Start([3], 1, [4, 5]), Start([7], 1, [6])]
    trained = []
    own = dareu_plus.rl.reinforce_loss
    monkeypatch.setattr(
        dareu_plus.rl, "reinforce_loss", lambda *given: trained.extend(given) or own(*given)
    )
    monkeypatch.setattr(
        dareu_plus, "pack", lambda *given: trained.append(pack(*given)) or trained[-1]
    )
    dareu_plus.update(learner, task(attribute), starts, RETAIN)
    batch, _, advantages, masks = trained
    for start, row, mask, (x, y, owner) in zip(
        starts, batch.response.tolist(), masks, asked, strict=True
    ):
        n_given = len(start.given)
        assert x == start.prompt and owner == start.owner
        assert y[:n_given] == start.given == row[:n_given]
        n = len(y) + (row[len(y) :][:1] == [EOS])
        assert mask.tolist() == [float(n_given <= t < n) for t in range(len(row))]
    assert (advantages[masks == 0] == 0).all() and advantages.abs().sum() > 0


def test_prompts_are_taken_in_turn():
    seen = []

    def attribute(prompts, responses, owners):
        seen.append(sorted(prompts))
        return even(prompts, responses) + 0.1

    _, log = unlearn(attribute, plus_updates=6, forget_batch=12)
    pairs = sorted(x for x, _ in FORGET * 8)  # 32 rows: batches of 12, 12 and 8
    assert [len(x) for x in seen] == [12, 12, 8] * 2
    assert sorted(sum(seen[:3], [])) == pairs == sorted(sum(seen[3:], []))


def known(prompts, responses, owners):
    """`even`, where nothing is read yet the share of all tokens."""
    attribution = even(prompts, responses)
    attribution[:, 0] = 0.1
    return attribution


def unlearn(attribute=known, **changes):
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 16, 1, 2, 16))
    settings = {"plus_lr": 0.02, "plus_updates": 60, "forget_batch": 4, "retain_batch": 4}
    c = replace(Config(), **{**settings, **changes})
    given = task(attribute, forget=FORGET * 8)
    return policy, list(dareu_plus.unlearn(policy, given, c))


def test_unlearning_lowers_a_known_attribution_and_a_control_does_not():
    _, log = unlearn(known, forget_batch=32, plus_distill_coef=0.1, plus_beginnings=0.0)
    start = sum(row["attribution"] for row in log[:3]) / 3
    assert start > 0.3 and log[-1]["attribution"] < 0.5 * start
    assert [row["step"] for row in log] == list(range(1, 61))
    attribute = controlled(known, "constant")
    policy, _ = unlearn(attribute, forget_batch=32, plus_distill_coef=0.1)
    responses = policy.generate([x for x, _ in FORGET * 50], temperature=1.0, **LIMITS)
    end = even([], responses)[:, -1].mean()
    assert end > 0.6 * start, "a reward that says nothing teaches nothing"


def test_it_is_seeded():
    one, log = unlearn(plus_updates=3)
    two, again = unlearn(plus_updates=3)
    other, _ = unlearn(plus_updates=3, seed=1)
    assert log == again and torch.equal(one.wte.weight, two.wte.weight)
    assert not torch.equal(one.wte.weight, other.wte.weight)
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert EOS == LIMITS["eos_id"]
