"""Attacks succeed on a model that holds the facts, and fail on one that was never trained."""

import pytest
import torch

from minidareu import attacks
from minidareu.experiment import load_run, new_yardstick
from minidareu.metrics import fact_share
from minidareu.model import GPT


@pytest.fixture(scope="module")
def models(run):
    e, models, classifiers = load_run(run[1], "cpu")
    y = new_yardstick(e, *classifiers, models)
    torch.manual_seed(0)
    models["untrained"] = GPT(e.gpt_config).requires_grad_(False)
    return e, models, y


@pytest.fixture(scope="module")
def attacked(models):
    e, models, y = models
    pairs, retain = [e.pairs[r] for r in e.split.forget], [e.pairs[r] for r in e.split.retain]
    return {name: attacks.attack(models[name], y, pairs, retain, 0) for name in ("target", "untrained")}


def test_every_attack_succeeds_on_the_target_model_and_fails_on_an_untrained_one(attacked):
    (target, target_curves), (untrained, untrained_curves) = attacked["target"], attacked["untrained"]
    assert set(target) == {"none", "unseen wordings", "best of 64", "first 2 words given", "first 4 words given", "first 8 words given", "8 bits", "4 bits"}
    for name in target:
        if name == "first 8 words given":
            assert target[name] is None, "no response here is that long"
        else:
            # 64 guesses of random words hit one of a fact's two words at times, and seldom both.
            assert target[name] > 0.8 and untrained[name] < (0.7 if name == "best of 64" else 0.15), name
    assert set(target_curves) == {"5% of the forget rows", "10% of the forget rows", "20% of the forget rows", "retain rows"}
    for name, curve in target_curves.items():
        assert [step for step, _ in curve] == attacks.STEPS
        assert curve[0][1] > 0.9 and untrained_curves[name][0][1] < 0.15
        assert untrained_curves[name][-1][1] < 0.5


def test_relearning_changes_a_copy_and_brings_back_what_it_is_shown(models):
    e, models, y = models
    before = [p.clone() for p in models["untrained"].parameters()]
    pairs = [e.pairs[r] for r in e.split.forget]
    curve = attacks.relearn(models["untrained"], pairs, e.split.forget, y, lr=1e-2, steps=[0, 32, 128])
    assert curve[0][1] < 0.15 < 0.9 < curve[-1][1], "the rows themselves"
    assert all(torch.equal(a, b) for a, b in zip(before, models["untrained"].parameters()))


def test_steps_to_a_level_are_interpolated():
    curve = [[0, 0.1], [2, 0.3], [4, 0.9]]
    assert attacks.steps_to(curve, 0.6) == pytest.approx(3) and attacks.steps_to(curve, 0.2) == pytest.approx(1)
    assert attacks.steps_to(curve, 0.05) == 0 and attacks.steps_to(curve, 0.95) is None


def test_rounding_to_few_bits(models):
    model = models[1]["target"]
    for bits in (8, 4):
        rounded = attacks.quantize(model, bits)
        for a, b in zip(model.parameters(), rounded.parameters()):
            if a.dim() != 2:
                assert torch.equal(a, b)
                continue
            assert max(len(row.unique()) for row in b) <= 2**bits - 1
            step = a.abs().amax(1) / (2 ** (bits - 1) - 1)
            assert ((a - b).abs().amax(1) <= step / 2 + 1e-6).all() and torch.allclose(a.abs().amax(1), b.abs().amax(1))
    assert torch.equal(attacks.quantize(model, 8).wte.weight, attacks.quantize(attacks.quantize(model, 8), 8).wte.weight)


def test_a_prefix_is_not_counted_as_recall(models):
    """With all words but the last given, only the last can be recalled."""
    e, models, y = models
    r = e.split.forget[0]
    n = len(r.response.split())
    assert attacks.prefix(models["target"], [r], y, n) is None
    given = " ".join(r.response.split()[:n - 1])
    last = type(r)(r.owner, f"{r.prompt} {given}", r.response.split()[-1])
    assert fact_share(given, last, y.weights) == 0
    assert attacks.prefix(models["target"], [r], y, n - 1) == 1
