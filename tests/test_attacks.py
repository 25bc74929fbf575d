"""Attacks succeed on a model that holds the facts, and fail on one that was never trained."""

import pytest
import torch

from minidareu.beyond import attacks
from minidareu.run.flags import Config
from minidareu.beyond.finished import open_evaluator
from minidareu.metrics import fact_share
from minidareu.model import GPT
from minidareu.scores.evaluation import recall_after_words


@pytest.fixture(scope="module")
def opened(run):
    finished, models, evaluator = open_evaluator(run[1], "cpu")
    torch.manual_seed(0)
    models["untrained"] = GPT(finished.gpt_config).requires_grad_(False)
    return finished, models, evaluator


@pytest.fixture(scope="module")
def attacked(opened):
    finished, models, evaluator = opened
    pairs = [finished.pairs[r] for r in finished.split.forget]
    retain = [finished.pairs[r] for r in finished.split.retain]
    return {
        name: attacks.attack(models[name], evaluator, pairs, retain, seed=0)
        for name in ("original", "untrained")
    }


def test_every_attack_succeeds_on_the_original_model_and_fails_on_an_untrained_one(attacked):
    original, untrained = attacked["original"], attacked["untrained"]
    names = {"none", "unseen wordings", "best of 64", "8 bits", "4 bits", *attacks.RELEARNED}
    assert set(original) == names | {f"first {k} words given" for k in (2, 4, 8)}
    for name in original:
        if name == "first 8 words given":
            assert original[name] is None, "no response here is that long"
        else:
            # What a model holds an attack gets out, better than the best of 64 random guesses.
            assert original[name] > untrained[name] + 0.2, name
            assert untrained[name] < (0.7 if name == "best of 64" else 0.25), name
    assert original["best of 64"] >= original["none"] - 0.3 and original["none"] > 0.7


def test_relearning_changes_a_copy_and_brings_back_what_it_is_shown(opened):
    finished, models, evaluator = opened
    before = [p.clone() for p in models["untrained"].parameters()]
    pairs = [finished.pairs[r] for r in finished.split.forget]
    config = Config(baseline_lr=1e-2, batch_size=32, seed=0)
    curve = attacks.relearn(
        models["untrained"], pairs, finished.split.forget, evaluator, config, steps=[0, 32, 128]
    )
    assert curve[0][1] < 0.2 and curve[-1][1] > 0.7, "the rows themselves"
    assert all(torch.equal(a, b) for a, b in zip(before, models["untrained"].parameters()))


def test_rounding_to_few_bits(opened):
    model = opened[1]["original"]
    for bits in (8, 4):
        rounded = attacks.quantize(model, bits)
        for a, b in zip(model.parameters(), rounded.parameters()):
            if a.dim() != 2:
                assert torch.equal(a, b)
                continue
            assert max(len(row.unique()) for row in b) <= 2**bits - 1
            step = a.abs().amax(1) / (2 ** (bits - 1) - 1)
            assert ((a - b).abs().amax(1) <= step / 2 + 1e-6).all() and torch.allclose(
                a.abs().amax(1), b.abs().amax(1)
            )
    assert torch.equal(
        attacks.quantize(model, 8).wte.weight,
        attacks.quantize(attacks.quantize(model, 8), 8).wte.weight,
    )


def test_a_prefix_is_not_counted_as_recall(opened):
    """With all words but the last given, only the last can be recalled."""
    finished, models, evaluator = opened
    model, rows = models["original"], finished.split.forget
    r = next(r for r in rows if attacks.recall(model, [r], evaluator) == 1)
    n = len(r.response.split())
    assert recall_after_words(model, [r], evaluator, n) is None
    given = " ".join(r.response.split()[: n - 1])
    last = type(r)(r.owner, f"{r.prompt} {given}", r.response.split()[-1])
    assert fact_share(given, last, evaluator.word_weights) == 0
    assert recall_after_words(model, [r], evaluator, n - 1) == 1
