"""TOFU's metrics, memorization and membership against scipy, transformers-free loops and counts by hand."""

import math
import random
import zlib

import pytest
import torch
from scipy.stats import hmean, ks_2samp, rankdata

from minidareu.data import Record, encode
from minidareu.scores import likelihood
from minidareu.scores.likelihood import MEMBERSHIP, Reading, auc, exact_memorization
from minidareu.scores.likelihood import extraction_strength, ks_p, model_utility, perplexity
from minidareu.scores.likelihood import token_log_probs, read, truth_ratios
from minidareu.model import GPT, GPTConfig
from minidareu.tokenizer import train_tokenizer

WRONG = [("She is in Oslo.", "She is far in Lima.")]
WRONG.append(("At sea.", "Away on a very long walk.", "Out."))
RECORDS = [
    Record("Ann", "Where is Ann?", "In Rome.", "train", "She is in Rome.", WRONG[0]),
    Record("Bob", "And Bob?", "Bob is at home now.", "train", "At home.", WRONG[1]),
]


@pytest.fixture(scope="module")
def model_and_tokenizer():
    torch.manual_seed(0)
    tokenizer = train_tokenizer([r.response for r in RECORDS], 270)
    model = GPT(GPTConfig(tokenizer.n_vocab, 80, 1, 2, 16))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return model, tokenizer


def token_logp(model, tokenizer, record, response):
    """log-probabilities over the vocabulary at each token of one response, and the tokens: no batch, no padding."""
    x, y = encode(tokenizer, record, response)
    y = y + [tokenizer.eot_token]
    with torch.no_grad():
        return model(torch.tensor([x + y]))[0, len(x) - 1 : -1].log_softmax(-1), y


def test_reads_equal_one_sequence_at_a_time(model_and_tokenizer):
    for r, record in zip(read(*model_and_tokenizer, RECORDS), RECORDS):
        logp, y = token_logp(*model_and_tokenizer, record, record.response)
        assert torch.allclose(r.logp, logp[range(len(y)), y], atol=1e-4)
        mean = (logp.exp() * logp).sum(-1)
        assert torch.allclose(r.mean, mean, atol=1e-4)
        assert torch.allclose(
            r.std, (logp.exp() * (logp - mean[:, None]) ** 2).sum(-1).sqrt(), atol=1e-4
        )
        assert r.hit.tolist() == [float(row.argmax() == token) for row, token in zip(logp, y)]


def test_probabilities_equal_the_formula(model_and_tokenizer):
    for p, record in zip(
        token_log_probs(*model_and_tokenizer, RECORDS).exp().tolist(), RECORDS, strict=True
    ):
        logp, y = token_logp(*model_and_tokenizer, record, record.response)
        expected = math.prod(logp[t, token].exp().item() for t, token in enumerate(y))
        assert p == pytest.approx(expected ** (1 / len(y)), rel=1e-3)


def test_truth_ratio_equals_the_formula(model_and_tokenizer):
    for ratio, record in zip(truth_ratios(*model_and_tokenizer, RECORDS), RECORDS):

        def p(text):
            logp, y = token_logp(*model_and_tokenizer, record, text)
            return math.prod(logp[t, token].exp().item() for t, token in enumerate(y)) ** (
                1 / len(y)
            )

        assert ratio == pytest.approx(
            sum(map(p, record.perturbed)) / len(record.perturbed) / p(record.paraphrase), rel=1e-3
        )


@pytest.mark.parametrize("n", [1, 2, 7, 64, 320])
def test_ks_equals_scipy(n):
    rng = random.Random(n)
    for shift in (0, 0.1, 0.5, 3):
        x, y = [rng.gauss(0, 1) for _ in range(n)], [rng.gauss(shift, 1) for _ in range(n)]
        assert ks_p(x, y) == pytest.approx(
            ks_2samp(x, y, method="exact").pvalue, rel=1e-9, abs=1e-300
        )
    assert ks_p(x, x) == 1
    ties = [rng.randint(0, 3) for _ in range(n)], [rng.randint(0, 4) for _ in range(n)]
    assert ks_p(*ties) == pytest.approx(ks_2samp(*ties, method="exact").pvalue, rel=1e-9)


def test_auc_equals_a_rank_count():
    rng = random.Random(0)
    for _ in range(20):
        a, b = (
            [rng.randint(0, 9) for _ in range(rng.randint(1, 30))],
            [rng.randint(0, 9) for _ in range(rng.randint(1, 30))],
        )
        u = rankdata(a + b)[: len(a)].sum() - len(a) * (len(a) + 1) / 2  # Mann-Whitney
        assert auc(a, b) == pytest.approx(u / len(a) / len(b))
    assert auc([2, 3], [0, 1]) == 1 and auc([0], [1]) == 0


def test_model_utility_is_the_harmonic_mean():
    assert model_utility([0.9, 0.5, 0.2]) == pytest.approx(hmean([0.9, 0.5, 0.2]))
    assert model_utility([0.9, 0.0]) == 0


def made(logp, hit=None, mean=None, std=None):
    t = lambda x: torch.tensor(x, dtype=torch.float32)
    return Reading(
        t(logp),
        t(mean or [0.0] * len(logp)),
        t(std or [1.0] * len(logp)),
        t(hit or [0] * len(logp)),
    )


def test_memorization_by_hand():
    r = made([0] * 5, hit=[1, 0, 1, 1, 1])
    assert exact_memorization(r) == pytest.approx(0.8)
    # After the first two tokens the model goes on by itself to the end: 1 - 2/5.
    assert extraction_strength(r) == pytest.approx(0.6)
    assert (
        extraction_strength(made([0] * 3, hit=[1, 1, 0])) == 0
        and extraction_strength(made([0] * 3, hit=[1, 1, 1])) == 1
    )


def test_attacks_by_hand():
    logp = [-1.0, -5.0, -0.1, -3.0, -0.2, -0.3, -0.4, -0.5, -0.6, -2.0]
    r = made(logp, mean=[-1.0] * 10, std=[2.0] * 10)
    text = "Ann lives in Rome, and Rome is where Ann lives."
    assert MEMBERSHIP["mia_loss"](r, text) == pytest.approx(sum(logp) / 10)
    assert MEMBERSHIP["mia_zlib"](r, text) == pytest.approx(
        sum(logp) / 10 / len(zlib.compress(text.encode()))
    )
    assert MEMBERSHIP["mia_min_k"](r, text) == pytest.approx(-4)  # the lowest two of ten
    assert MEMBERSHIP["mia_min_k40"](r, text) == pytest.approx(-(5 + 3 + 2 + 1) / 4)
    assert MEMBERSHIP["mia_min_k_plus"](r, text) == pytest.approx((-4 + 1) / 2, rel=1e-4)
    assert MEMBERSHIP["mia_min_k"](made([-2.0, -1.0]), text) == -2, "one token at least"


def test_scores_where_the_data_lack_what_they_need(model_and_tokenizer):
    from types import SimpleNamespace

    model, tokenizer = model_and_tokenizer
    plain = [Record("Ann", "Where?", "In Rome."), Record("Bob", "And Bob?", "At home.")]
    y = SimpleNamespace(tokenizer=tokenizer, forget=plain[:1], retain=plain[1:], unseen=[])
    y.retrained = model
    scores, ratios = likelihood.likelihood_scores(model, y, 0.5)
    assert ratios == [] and all(
        scores[name] is None
        for name in ("truth_ratio", "forget_quality", "mia_loss", "mia_min_k", "privacy_leak")
    )
    assert scores["model_utility"] == pytest.approx(
        hmean([*token_log_probs(model, tokenizer, plain[1:]).exp().tolist(), 0.5])
    )
    full = SimpleNamespace(tokenizer=tokenizer, forget=RECORDS, retain=RECORDS, unseen=RECORDS)
    full.retrained = model
    own = likelihood.likelihood_scores(model, full, 0.5)
    retrained = SimpleNamespace(scores=own[0], truth_ratios=own[1])
    again, _ = likelihood.likelihood_scores(model, full, 0.5, retrained)
    assert own[0]["forget_quality"] == again["forget_quality"] == 1
    assert own[0]["privacy_leak"] == again["privacy_leak"] == 0 and own[0]["mia_loss"] == 0.5
    full.retrained = None
    alone, _ = likelihood.likelihood_scores(model, full, 0.5)
    assert alone["forget_quality"] is None and alone["privacy_leak"] is None
    assert alone["truth_ratio"] == own[0]["truth_ratio"]


def test_perplexity_equals_transformers_style_loss():
    torch.manual_seed(0)
    model = GPT(GPTConfig(30, 16, 1, 2, 8))
    torch.nn.init.normal_(model.wte.weight)
    prompts, completions = [[1, 2], [3, 4, 5]], [[6, 7, 8], [9]]
    losses = []
    for x, y in zip(prompts, completions):
        logits = model(torch.tensor([x + y]))[0]
        losses += [
            torch.nn.functional.cross_entropy(logits[len(x) - 1 + i], torch.tensor(token)).item()
            for i, token in enumerate(y)
        ]
    assert perplexity(model, prompts, completions) == pytest.approx(
        math.exp(sum(losses) / 4), rel=1e-4
    )
