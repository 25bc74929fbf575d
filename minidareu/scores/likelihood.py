"""Scores from the probabilities that a model gives to texts: TOFU's metrics (Maini et al. 2024),
memorization, and membership inference.

Every mean runs over the tokens of a response and its end of text, never over prompt or padding.
"""

import math
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Ids, encode
from ..model import GPT, chosen, log_probs, pack_pairs
from .chunks import response_log_probs, rows_at_once


@dataclass
class Reading:
    """What a model makes of a text, token by token of its response and end of text: each (T,)."""

    logp: Tensor  # log p of the token
    mean: Tensor  # mean of log p over the vocabulary, weighted by p
    std: Tensor  # its standard deviation
    hit: Tensor  # 1 where the token is the model's most likely one


@torch.no_grad()
def read(model, tokenizer, records, responses=None, chunk=64) -> list[Reading]:
    """A Reading of each record's response, or of `responses` (texts) in its place."""
    responses = responses or [r.response for r in records]
    pairs = [encode(tokenizer, r, y) for r, y in zip(records, responses, strict=True)]
    longest = max((len(y) + 1 for _, y in pairs), default=1)
    chunk = rows_at_once(longest * model.config.vocab_size, most=chunk, model=model)
    readings = []
    for i in range(0, len(pairs), chunk):
        batch = pack_pairs(pairs[i : i + chunk], tokenizer.eot_token, model.device)
        logp_all = log_probs(model, batch)  # (B, T, V)
        p = logp_all.exp()
        mean = (p * logp_all).sum(dim=-1)
        std = ((p * logp_all**2).sum(dim=-1) - mean**2).clamp(min=0).sqrt()
        hit = (logp_all.argmax(dim=-1) == batch.response).float()
        columns = torch.stack([chosen(logp_all, batch), mean, std, hit])  # (4, B, T)
        for row, length in enumerate(batch.mask.sum(dim=1).int().tolist()):
            readings.append(Reading(*columns[:, row, :length]))
    return readings


def mean_log_prob(model: GPT, prompts: list[Ids], responses: list[Ids]) -> float:
    """Mean of log p over all tokens of the responses (lists of ids, end of text included)."""
    return torch.cat(response_log_probs(model, prompts, responses)).mean().item()


def perplexity(model: GPT, prompts: list[Ids], responses: list[Ids]) -> float:
    """exp(-mean log p) of the responses' tokens under `model`; infinity where it is too large."""
    mean = torch.tensor(mean_log_prob(model, prompts, responses), dtype=torch.float64)
    return (-mean).exp().item()


def token_log_probs(model, tokenizer, records, responses=None) -> Tensor:
    """log p(response | prompt) / tokens of each record, (N,); `responses` (texts) in the place of
    their own. Its exponential is TOFU's probability (Sec. 2.2.1)."""
    responses = responses or [r.response for r in records]
    pairs = [encode(tokenizer, r, y) for r, y in zip(records, responses, strict=True)]
    ended = [y + [tokenizer.eot_token] for _, y in pairs]
    rows = response_log_probs(model, [x for x, _ in pairs], ended)
    return torch.tensor([logp.mean().item() for logp in rows], dtype=torch.float64)


def truth_ratios(model, tokenizer, records) -> list[float]:
    """TOFU, eq. 1: mean probability of a record's perturbed (wrong) responses over that of its
    paraphrase (the truth); above 1, the wrong ones are likelier, infinitely where a float can't
    hold it. Of records that have both."""
    records = [r for r in records if r.paraphrase and r.perturbed]
    true = token_log_probs(model, tokenizer, records, [r.paraphrase for r in records])
    repeated = [r for r in records for _ in r.perturbed]
    perturbed = [text for r in records for text in r.perturbed]
    wrong = token_log_probs(model, tokenizer, repeated, perturbed)
    wrong = wrong.split([len(r.perturbed) for r in records])
    log_ratios = [
        logp.logsumexp(dim=0) - math.log(len(logp)) - truth
        for logp, truth in zip(wrong, true, strict=True)
    ]
    return [log_ratio.exp().item() for log_ratio in log_ratios]


def model_utility(values) -> float:
    """Harmonic mean (TOFU, Sec. 2.2.1) of probability, ROUGE-L recall and max(0, 1 - truth ratio),
    on each set that is kept."""
    if any(value <= 0 for value in values):
        return 0.0
    return len(values) / sum(1 / value for value in values)


def ks_p(x, y) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test, x and y of one length n: exact.

    P(D >= h / n) = 2 sum_i (-1)^(i-1) C(2n, n - i h) / C(2n, n)  (Gnedenko and Korolyuk 1951).
    On the truth ratios of two models it is TOFU's forget quality.
    """
    n = len(x)
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    at = torch.cat([x, y])[:, None]
    h = ((x <= at).sum(dim=1) - (y <= at).sum(dim=1)).abs().max().item()
    if h == 0:
        return 1.0
    terms = [(-1) ** (i - 1) * math.comb(2 * n, n - i * h) for i in range(1, n // h + 1)]
    return min(1.0, 2 * sum(terms) / math.comb(2 * n, n))


def extraction_strength(r: Reading) -> float:
    """Share of the response that the model goes on with by itself, greedily, after the rest of it
    (Carlini et al. 2023)."""
    return r.hit.flip(0).cumprod(0).sum().item() / len(r.hit)


def exact_memorization(r: Reading) -> float:
    """Share of the tokens that are the model's most likely ones (Tirumala et al. 2022)."""
    return r.hit.mean().item()


def lowest(x: Tensor, k: float) -> float:
    """Mean of the k x 100% lowest of x, of one at least."""
    return x.sort().values[: max(1, int(k * len(x)))].mean().item()


def standardised(r: Reading) -> Tensor:
    """How far the token's log p lies from its mean, in standard deviations."""
    return (r.logp - r.mean) / (r.std + 1e-6)


# Membership inference: a score of (reading, text) that is higher for a text that was trained on.
MEMBERSHIP = {
    "mia_loss": lambda r, text: r.logp.mean().item(),  # Yeom et al. 2018
    "mia_zlib": lambda r, text: r.logp.mean().item() / len(zlib.compress(text.encode())),
    "mia_min_k": lambda r, text: lowest(r.logp, 0.2),  # Min-K%, Shi et al. 2024
    "mia_min_k40": lambda r, text: lowest(r.logp, 0.4),  # k = 40, as in the paper
    "mia_min_k_plus": lambda r, text: lowest(standardised(r), 0.2),  # Zhang et al. 2025
}


def auc(members, others) -> float:
    """Area under the ROC curve: the chance that a member scores higher than another, ties counted
    half. Lists of scores."""
    members = torch.tensor(members, dtype=torch.float64)[:, None]
    others = torch.tensor(others, dtype=torch.float64)
    return ((members > others).double() + (members == others).double() / 2).mean().item()


def mean(values):
    """None where there are none."""
    return sum(values) / len(values) if values else None


def likelihood_scores(model, evaluator, retain_rouge, retrained=None):
    """All scores of this file, and the truth ratios on the forget set.

    evaluator: `evaluation.Evaluator`; retain_rouge: the model's mean ROUGE-L recall on the retain
    set; retrained: the retrained model's Evaluation, None when the model is the retrained one.
    A score is None where the data lack what it needs, and all are where the model's probabilities
    are not numbers.
    """
    tokenizer = evaluator.tokenizer
    forget = read(model, tokenizer, evaluator.forget)
    unseen = read(model, tokenizer, evaluator.unseen) if evaluator.unseen else []
    ratios = truth_ratios(model, tokenizer, evaluator.forget)
    retain = read(model, tokenizer, evaluator.retain)
    retain_ratios = truth_ratios(model, tokenizer, evaluator.retain)
    utility = [mean([math.exp(r.logp.mean()) for r in retain]), retain_rouge]
    if retain_ratios:
        utility.append(mean([max(0, 1 - ratio) for ratio in retain_ratios]))
    scores = {
        "probability": mean([math.exp(r.logp.mean()) for r in forget]),
        "truth_ratio": mean(ratios),
        "model_utility": model_utility(utility),
        "forget_quality": None,
        "extraction_strength": mean([extraction_strength(r) for r in forget]),
        "extraction_strength_retain": mean([extraction_strength(r) for r in retain]),
        "exact_memorization": mean([exact_memorization(r) for r in forget]),
    }
    if ratios and evaluator.retrained:
        scores["forget_quality"] = ks_p(ratios, retrained.truth_ratios if retrained else ratios)
    for name, score in MEMBERSHIP.items():
        members = [score(r, d.response) for r, d in zip(forget, evaluator.forget, strict=True)]
        others = [score(r, d.response) for r, d in zip(unseen, evaluator.unseen, strict=True)]
        scores[name] = auc(members, others) if others else None
    # MUSE (Shi et al. 2025): the distance of the AUC from the retrained model's, relative to it.
    base = (retrained.scores if retrained else scores)["mia_min_k"]
    comparable = base and evaluator.retrained
    scores["privacy_leak"] = scores["mia_min_k"] / base - 1 if comparable else None
    if any(r.logp.isnan().any() for r in forget):
        return dict.fromkeys(scores), []
    return scores, ratios
