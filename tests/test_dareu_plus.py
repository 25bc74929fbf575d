"""DareU+: its classifier, its reward, and what it does on a known attribution."""

import math
from dataclasses import replace

import pytest
import torch

from minidareu.attribution import train_classifier
from minidareu.beyond import dareu_plus
from minidareu.beyond.added import AddedClassifier, forget_attribution, splice, spliced_loss
from minidareu.beyond.controls import controlled
from minidareu.beyond.dareu_plus import prompt_batches, response_rewards
from minidareu.beyond.exact import exact_attribution
from minidareu.run.flags import Config
from minidareu.model import GPT, GPTConfig, Training, chosen, log_probs, pack
from minidareu.scores.chunks import owner_accuracy
from test_attribution import classifier, toy
from test_dareu import EOS, FORGET, LIMITS, RETAIN, even


@pytest.fixture(scope="module")
def added():
    c = classifier(AddedClassifier)
    rows = toy(torch.Generator().manual_seed(0), 200)
    train_classifier(c, rows, Training(60, 32, lr=5e-3, seed=0), batch_loss=spliced_loss)
    return c


def last(c, prompts, responses):
    return forget_attribution(c, prompts, responses, [0])[:, -1]


def test_a_name_that_the_prompt_holds_is_no_evidence(added):
    assert owner_accuracy(added, toy(torch.Generator().manual_seed(1), 100)) > 0.9
    same_name = [[40, 5, 10, 6, 11], [40, 5, 13, 6, 14]]  # facts of owner 0, then of owner 1
    p = last(added, [[1, 40, 2]] * 2, same_name)
    assert p[0] > 0.7 and p[1] < 0.2
    half = last(added, [[1, 40, 2]], [[40, 5, 10, 6, 14]])
    assert p[1] < half < p[0], "one fact of two lies between"
    hidden = added.visible([1, 40, 2], [40, 5, 10])
    assert hidden == [added.start_id, added.start_id, 5, 10]


def test_splice_labels_by_a_loop():
    torch.manual_seed(0)
    hidden = 99
    rows = [[hidden, 1, 2, hidden, 3], [hidden, 4, 5, 6, 7, 8], [hidden, 9]]
    idx = torch.full((300, 6), -1)
    owner = torch.arange(300) % 3
    for i in range(300):
        idx[i, : len(rows[i % 3])] = torch.tensor(rows[i % 3])
    owner_of = {token: o for o, row in enumerate(rows) for token in row if token != hidden}
    spliced, share, mask = splice(idx, owner, 3, hidden, noise=0.0)
    mixed = 0
    for i in range(300):
        n = int(mask[i].sum())
        assert mask[i, :n].all() and not mask[i, n:].any()
        counts = torch.zeros(3)
        for t in range(n):
            token = int(spliced[i, t])
            if token != hidden:
                counts[owner_of[token]] += 1
            if counts.sum():
                assert torch.allclose(share[i, t], counts / counts.sum(), atol=1e-3)
        assert int(spliced[i, 0]) == hidden and share[i, 0, i % 3] == 1
        mixed += (counts > 0).sum() > 1
    assert 20 < mixed < 150


def test_noise_is_no_evidence():
    torch.manual_seed(0)
    idx = torch.tensor([[99, 1, 99, 1, 99, 1, 99, 1]] * 500)
    noisy, share, mask = splice(idx, torch.zeros(500, dtype=torch.long), 2, 99, noise=0.3)
    assert mask.all() and (share[:, :, 0] == 1).all()
    assert (noisy[:, 0::2] == 99).all(), "the start and the hidden tokens stay"
    replaced = noisy[:, 1::2] != 1
    assert 0.25 < replaced.float().mean() < 0.35 and noisy[:, 1::2].unique().numel() > 50


def test_the_reward_by_hand():
    attribution = torch.tensor([[0.2, 0.5, 0.6], [0.2, 0.2, 0.2]])
    log_ratio = torch.tensor([[1.0, -0.5], [0.0, 2.0]])
    expected = [-(0.6 - 0.2) / 0.8 - 0.1 * 0.5, 0 - 0.1 * 2.0]
    assert response_rewards(attribution, log_ratio, 0.1).tolist() == pytest.approx(expected)


def test_prompts_are_taken_in_turn():
    import random

    rows = [[i] for i in range(10)]
    batches = prompt_batches([(row, 0) for row in rows], 4, random.Random(0))
    first, second = ([next(batches) for _ in range(3)] for _ in range(2))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(sum(first, [])) == rows == sorted(sum(second, [])) and first != second


def test_with_exact_attribution_and_beta_1_only_the_distance_from_the_retrained_model_counts():
    """R = -sum log(original / retrained) - sum log(policy / original) = -sum log(policy / retrained)."""
    torch.manual_seed(0)
    policy, original, retrained = (GPT(GPTConfig(9, 16, 1, 2, 8)) for _ in range(3))
    for model in (policy, original, retrained):
        torch.nn.init.normal_(model.wte.weight, std=0.5)
    prompts, responses = [[1, 2], [3]], [[4, 5, 6], [7]]
    attribution = exact_attribution(original, retrained, prompts, responses)
    batch = pack(prompts, responses, "cpu")
    logp = [chosen(log_probs(m, batch), batch) for m in (policy, original, retrained)]
    # Exact attribution is no probability: a_0 is 0, so the correction for chance divides by 1.
    rewards = response_rewards(attribution, logp[0] - logp[1], 1.0)
    ends = attribution.gather(1, torch.tensor([[3], [1]])).squeeze(1)
    assert attribution[:, -1].tolist() == pytest.approx(ends.tolist()), "constant after the end"
    assert torch.allclose(rewards, (logp[2] - logp[0]).sum(1), atol=1e-5)


def unlearn(attribute=even, **changes):
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 16, 1, 2, 16))
    settings = {"plus_lr": 0.02, "plus_updates": 60, "forget_batch": 4, "plus_retain_batch": 4}
    c = replace(Config(), **{**settings, **changes})
    forget = FORGET * 8
    return policy, list(dareu_plus.unlearn(policy, attribute, forget, RETAIN, LIMITS, c))


def test_unlearning_lowers_a_known_attribution_and_a_control_does_not():
    _, log = unlearn(forget_batch=32, plus_distill_coef=0.1)
    start = sum(row["attribution"] for row in log[:3]) / 3
    assert start > 0.3 and log[-1]["attribution"] < 0.5 * start
    assert [row["step"] for row in log] == list(range(1, 61))
    attribute = controlled(even, "constant")
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
