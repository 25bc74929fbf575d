"""How good is the proxy? The classifier's attribution beside the exact one, where both can be had.

Exact here is the attribution to the forget set: log p(y | x) under the target model minus that under the retrained model, a token
(`exact.mean_logp`). With the models of `python -m minidareu.exact` it is compared owner by owner too.
"""

import copy
import random

import torch

from . import dareu
from .attribution import attribution, response_posterior
from .data import encode
from .exact import attribution_matrix, mean_logp, rewarded, summary
from .metrics import words
from .model import generate

PER_PROMPT = 4  # samples of the policy to each forget prompt


def ranks(x):
    """Ranks from 1, ties sharing their mean: (N,) -> (N,)."""
    below, same = (x[:, None] > x).sum(1), (x[:, None] == x).sum(1)
    return below + (same + 1).double() / 2


def spearman(x, y):
    """Spearman's rank correlation: Pearson's of the ranks. (N,), (N,) -> float; None where one of them is constant."""
    r = torch.corrcoef(torch.stack([ranks(x.double()), ranks(y.double())]))[0, 1].item()
    return r if r == r else None


def calibration(confidence, correct, n_bins=10):
    """Reliability diagram and expected calibration error (Guo et al. 2017). (N,), (N,) of 0 and 1 -> (rows, error).

    A row a bin that is not empty: mean confidence, share correct, share of the responses. Error: mean of their distance.
    """
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    rows = [[confidence[bins == b].mean().item(), correct[bins == b].float().mean().item(), (bins == b).float().mean().item()]
            for b in bins.unique().tolist()]
    return rows, sum(share * abs(sure - right) for sure, right, share in rows)


def attributions(prompts, responses, y):
    """To the forget owners, of lists of ids: {exact, added, response, judge: (N,)}."""
    texts = [[y.tokenizer.decode(ids).strip() for ids in rows] for rows in (prompts, responses)]
    return {"exact": mean_logp(y.target, prompts, responses) - mean_logp(y.retrained, prompts, responses),
            "added": attribution(y.classifier, prompts, responses, y.forget_owners).cpu(),
            "response": attribution(y.classifier_response, prompts, responses, y.forget_owners).cpu(),
            "judge": y.judge.attribution(*texts, y.forget_owners)}


def correlations(found):
    """Spearman's correlation of every other attribution with the exact one."""
    return {name: spearman(values, found["exact"]) for name, values in found.items() if name != "exact"}


def sample(model, prompts, y, seed, chunk=512):
    """One response to each prompt at temperature 1, which leaves the generator of random numbers as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [prompts[i:i + chunk] for i in range(0, len(prompts), chunk)]
        return [ids for part in parts for ids in generate(model, part, y.max_new_tokens, 1.0, y.tokenizer.eot_token)]


def along_the_policy(e, y):
    """DareU again, from the target model: attributions of the policy's samples after iterations 1, 2, 4, ..., and the last."""
    policy, c, points = copy.deepcopy(y.target).requires_grad_(True), e.config, {}
    prompts, retain = [e.pairs[r][0] for r in e.split.forget], [e.pairs[r] for r in e.split.retain]
    for row in dareu.unlearn(policy, rewarded(c, y), prompts, retain, e.max_new_tokens, e.tokenizer.eot_token, c):
        i = row["iteration"]
        if i & (i - 1) == 0 or i == c.iterations:
            points[i] = attributions(prompts * PER_PROMPT, sample(policy, prompts * PER_PROMPT, y, c.seed), y)
    return points


def probes(e, y):
    """Mean attributions of responses to the forget prompts, some made to mislead: where does the proxy fail?"""
    rng, rows = random.Random(e.config.seed), e.split.forget
    others = [name for name in e.split.owners if name not in e.split.forget_owners]
    telling = [sum(y.weights.get(w, 0) for w in set(words(r.response)) - set(words(r.prompt))) for r in rows]
    common = sorted(range(len(rows)), key=telling.__getitem__)[:max(1, len(rows) // 4)]

    def shuffled(text):
        return " ".join(rng.sample(text.split(), len(text.split())))

    kinds = {"the truth": [(r, r.response) for r in rows],
             "the truth, the quarter that most owners share": [(rows[i], rows[i].response) for i in common],
             "the truth under another name": [(r, r.response.replace(r.owner, rng.choice(others))) for r in rows if r.owner in r.response],
             "the truth, words shuffled": [(r, shuffled(r.response)) for r in rows],
             "a wrong fact": [(r, r.perturbed[0]) for r in rows if r.perturbed],
             "words of retain responses, shuffled": [(r, shuffled(rng.choice(y.retain).response)) for r in rows]}
    found = {}
    for name, pairs in kinds.items():
        if pairs:
            prompts, responses = zip(*(encode(y.tokenizer, r, text) for r, text in pairs))
            found[name] = {key: values.mean().item() for key, values in attributions(prompts, responses, y).items()}
    return found


def owner_by_owner(e, exact_dir, y, device):
    """The classifier's posterior beside the exact attribution to every owner, on the target model's samples to all training prompts."""
    prompts, owners = [e.pairs[r][0] for r in e.train], torch.tensor([e.split.owners.index(r.owner) for r in e.train])
    responses, columns = sample(y.target, prompts, y, e.config.seed), torch.arange(len(owners))
    exact, noise = attribution_matrix(e, exact_dir, prompts, responses, device)
    posterior = torch.cat([response_posterior(y.classifier, prompts[i:i + 256], responses[i:i + 256]) for i in range(0, len(prompts), 256)]).T.cpu()
    confidence, best = posterior.max(0)
    surely = exact.max(0).values > noise.abs().flatten().quantile(0.95)
    diagram, error = calibration(confidence, best == exact.argmax(0))
    return {"spearman": spearman(posterior[owners, columns], exact[owners, columns]),
            "top1_agreement": (best == exact.argmax(0)).float().mean().item(),
            "top1_agreement_above_noise": (best == exact.argmax(0))[surely].float().mean().item(), "above_noise": surely.float().mean().item(),
            "reliability": diagram, "calibration_error": error,
            "exact": summary(exact, noise, owners), "classifier": summary(posterior, torch.zeros(1, len(owners)), owners)["by_owner"]}


def proxy_quality(e, y, exact_dir, device):
    """Everything above, as a dict for `audit.json`. Owner by owner only where `exact_dir` is given."""
    known = e.split.forget + y.retain
    prompts = [e.pairs[r][0] for r in known]
    found = {"training responses": correlations(attributions(prompts, [e.pairs[r][1] for r in known], y)),
             "target's samples": correlations(attributions(prompts, sample(y.target, prompts, y, e.config.seed), y))}
    if "dareu" in e.config.methods.split(","):
        points = along_the_policy(e, y)
        found["along"] = {i: {"spearman": correlations(point), **{name: values.mean().item() for name, values in point.items()}}
                          for i, point in points.items()}
        pooled = {name: torch.cat([point[name] for point in points.values()]) for name in next(iter(points.values()))}
        found["policy's samples"] = correlations(pooled)
        found["scatter"] = {name: values.tolist() for name, values in pooled.items()}
    tested = e.split.test + e.split.unseen
    posterior = response_posterior(y.classifier, *zip(*(e.pairs[r] for r in tested)))
    correct = posterior.argmax(-1).cpu() == torch.tensor([e.split.owners.index(r.owner) for r in tested])
    found["reliability"], found["calibration_error"] = calibration(posterior.max(-1).values.cpu(), correct)
    found["probes"] = probes(e, y)
    if exact_dir:
        found["owners"] = owner_by_owner(e, exact_dir, y, device)
    return found
