"""Scores from the probabilities that a model gives to texts: TOFU's metrics (Maini et al. 2024), memorization, and membership.

Every mean runs over the tokens of a response and its end of text, never over its prompt or padding.
"""

import math
import zlib
from dataclasses import dataclass

import torch

from .dareu import log_policy
from .data import encode
from .model import pack_pairs


@dataclass
class Read:
    """What a model makes of a text, token by token of its response and end of text: each (n,)."""
    logp: torch.Tensor  # log p of the token
    mean: torch.Tensor  # mean of log p over the vocabulary, weighted by p
    std: torch.Tensor  # its standard deviation
    hit: torch.Tensor  # 1 where the token is the model's most likely one


@torch.no_grad()
def read(model, tokenizer, records, responses=None, chunk=64):
    """A `Read` of each record's response (or of `responses`, texts in its place) after its prompt."""
    device, reads = model.wte.weight.device, []
    pairs = [encode(tokenizer, r, response) for r, response in zip(records, responses or [r.response for r in records])]
    for i in range(0, len(pairs), chunk):
        idx, mask = pack_pairs(pairs[i:i + chunk], tokenizer.eot_token, device)
        logp, _ = log_policy(model, idx, mask)  # (N, V), row after row
        p, token = logp.exp(), idx[:, 1:][mask.bool()]
        mean = (p * logp).sum(-1)
        std = ((p * logp ** 2).sum(-1) - mean ** 2).clamp(min=0).sqrt()
        columns = logp.gather(1, token[:, None])[:, 0], mean, std, (logp.argmax(-1) == token).float()
        reads += [Read(*row) for row in zip(*(column.split(mask.sum(1).int().tolist()) for column in columns))]
    return reads


def probability(r):
    """p(response | prompt) ** (1 / tokens) (TOFU, section 2.2.1)."""
    return math.exp(r.logp.mean())


def truth_ratios(model, tokenizer, records):
    """TOFU, eq. 1: the mean probability of a record's perturbed responses over that of its paraphrase; above 1, the wrong ones are likelier.

    Of the records that have both.
    """
    records = [r for r in records if r.paraphrase and r.perturbed]
    paraphrases = read(model, tokenizer, records, [r.paraphrase for r in records])
    wrong = iter(read(model, tokenizer, [r for r in records for _ in r.perturbed], [text for r in records for text in r.perturbed]))
    return [sum(probability(next(wrong)) for _ in r.perturbed) / len(r.perturbed) / probability(p) for r, p in zip(records, paraphrases)]


def model_utility(values):
    """Harmonic mean (TOFU, section 2.2.1): of probability, ROUGE-L recall and truth ratio, max(0, 1 - R), on each set that is kept."""
    return len(values) / sum(1 / v for v in values) if all(v > 0 for v in values) else 0.0


def ks_p(x, y):
    """p-value of the two-sample Kolmogorov-Smirnov test, x and y of one length n: exact (Gnedenko and Korolyuk 1951).

    P(D >= h / n) = 2 sum_i (-1)^(i-1) C(2n, n - i h) / C(2n, n). TOFU's forget quality, on truth ratios of two models.
    """
    n = len(x)
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    at = torch.cat([x, y])[:, None]
    h = ((x <= at).sum(1) - (y <= at).sum(1)).abs().max().item()
    if h == 0:
        return 1.0
    return min(1.0, 2 * sum((-1) ** (i - 1) * math.comb(2 * n, n - i * h) for i in range(1, n // h + 1)) / math.comb(2 * n, n))


def extraction_strength(r):
    """Share of the response that the model goes on with by itself, greedily, after the rest of it (Carlini et al. 2023)."""
    return r.hit.flip(0).cumprod(0).sum().item() / len(r.hit)


def exact_memorization(r):
    """Share of the tokens that are the model's most likely ones (Tirumala et al. 2022)."""
    return r.hit.mean().item()


def lowest(x, k=0.2):
    """Mean of the k x 100% lowest of x, of one at least."""
    return x.sort().values[:max(1, int(k * len(x)))].mean().item()


# Membership inference: a score that is higher for a text that was trained on.
ATTACKS = {
    "loss": lambda r, text: r.logp.mean().item(),  # Yeom et al. 2018
    "zlib": lambda r, text: r.logp.mean().item() / len(zlib.compress(text.encode())),  # Carlini et al. 2021
    "min_k": lambda r, text: lowest(r.logp),  # Min-K%, Shi et al. 2024
    "min_k_plus": lambda r, text: lowest((r.logp - r.mean) / (r.std + 1e-6)),  # Min-K%++, Zhang et al. 2025
}


def auc(members, others):
    """Area under the ROC curve: the chance that a member scores higher than another, ties counted half. Lists of scores."""
    members, others = torch.tensor(members, dtype=torch.float64)[:, None], torch.tensor(others, dtype=torch.float64)
    return ((members > others).double() + (members == others).double() / 2).mean().item()


def mean(values):
    """None where there are none."""
    return sum(values) / len(values) if values else None


def likelihood_scores(model, y, rouge, retrained=None):
    """All scores of this file, and the truth ratios on the forget set. None where the data lack what a score needs.

    y: Yardstick; rouge: the model's mean ROUGE-L recall on the retain set; retrained: what this gave for the retrained
    model, None when the model is the retrained one itself.
    """
    forget, unseen = read(model, y.tokenizer, y.forget), read(model, y.tokenizer, y.unseen)
    ratios, retain_ratios = truth_ratios(model, y.tokenizer, y.forget), truth_ratios(model, y.tokenizer, y.retain)
    retain = [mean(list(map(probability, read(model, y.tokenizer, y.retain)))), rouge]
    retain += [mean([max(0, 1 - ratio) for ratio in retain_ratios])] if retain_ratios else []
    scores = {"probability": mean(list(map(probability, forget))), "truth_ratio": mean(ratios),
              "model_utility": model_utility(retain), "forget_quality": ks_p(ratios, retrained[1] if retrained else ratios) if ratios else None,
              "extraction_strength": mean(list(map(extraction_strength, forget))),
              "exact_memorization": mean(list(map(exact_memorization, forget)))}
    for name, attack in ATTACKS.items():
        members, others = ([attack(r, record.response) for r, record in zip(*part)] for part in ((forget, y.forget), (unseen, y.unseen)))
        scores["mia_" + name] = auc(members, others) if others else None
    base = retrained[0] if retrained else scores
    # MUSE (Shi et al. 2025): how far the attack's AUC lies from the retrained model's, relative to it.
    scores["privacy_leak"] = scores["mia_min_k"] / base["mia_min_k"] - 1 if base["mia_min_k"] else None
    return scores, ratios
