"""How good is the proxy? The classifier's attribution beside the exact one, where both can be had.

Exact here is the attribution to the forget set: log p(y | x) under the target model minus that under the retrained model, a token, and
a mean over pairs of the two by other seeds: one pair alone says much about its luck, and less about the data. Owner by owner, with
the models of `python -m minidareu.exact`, the classifier is compared too.
"""

import copy
import random

import torch

from . import dareu
from .attribution import attribution, response_posterior
from .data import encode
from .exact import attribution_matrix, mean_logp, rewarded, summary
from .likelihood import auc
from .metrics import words
from .model import generate_in_chunks

PER_PROMPT = 4  # samples of the policy to each forget prompt
OWES = 0.1  # nats a token; where every seed is the same, less than this would still be above the noise


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


def attributions(prompts, responses, pairs, y):
    """To the forget owners, of lists of ids: {exact: (pairs, N), added, response, judge: (N,)}. pairs: (target, retrained model) by seeds."""
    texts = [[y.tokenizer.decode(ids).strip() for ids in rows] for rows in (prompts, responses)]
    return {"exact": torch.stack([mean_logp(target, prompts, responses) - mean_logp(retrained, prompts, responses) for target, retrained in pairs]),
            "added": attribution(y.classifier, prompts, responses, y.forget_owners).cpu(),
            "response": attribution(y.classifier_response, prompts, responses, y.forget_owners).cpu(),
            "judge": y.judge.attribution(*texts, y.forget_owners)}


def agreement(found):
    """Of every proxy with the exact attribution: Spearman's correlation; and the chance (AUC) that it is higher for a response that owes
    something to the forget set, its exact attribution above OWES and above twice its standard error over seeds, than for one that does not.

    "another seed": the correlation of the exact attribution of a seed with that of the others, which is as much as can be asked for.
    """
    exact, n = found["exact"], len(found["exact"])
    mean, proxies = exact.mean(0), {name: values for name, values in found.items() if name != "exact"}
    error = exact.std(0) / n ** 0.5 if n > 1 else torch.full_like(mean, float("inf"))
    owes = mean > (2 * error).clamp(min=OWES)
    seeds = [spearman(exact[i], torch.cat([exact[:i], exact[i + 1:]]).mean(0)) for i in range(n) if n > 1]
    return {"spearman": {**{name: spearman(values, mean) for name, values in proxies.items()},
                         "another seed": sum(seeds) / len(seeds) if seeds and None not in seeds else None},
            "owes": owes.float().mean().item(), "mean": {name: values.mean().item() for name, values in found.items()},
            "auc": {name: auc(values[owes].tolist(), values[~owes].tolist()) if 0 < owes.sum() < len(owes) else None
                    for name, values in proxies.items()}}


def sample(model, prompts, y, seed, chunk=512):
    """One response to each prompt at temperature 1, which leaves the generator of random numbers as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return generate_in_chunks(model, prompts, y.max_new_tokens, 1.0, y.tokenizer.eot_token, chunk)


def along_the_policy(e, y):
    """DareU again, from the target model: {iteration: the policy's samples after it}, at 1, 2, 4, ..., and the last."""
    policy, c, samples = copy.deepcopy(y.target).requires_grad_(True), e.config, {}
    prompts, retain = [e.pairs[r][0] for r in e.split.forget], [e.pairs[r] for r in e.split.retain]
    for row in dareu.unlearn(policy, rewarded(c, y), prompts, retain, e.max_new_tokens, e.tokenizer.eot_token, c, {}):
        i = row["iteration"]
        if i & (i - 1) == 0 or i == c.iterations:
            samples[i] = sample(policy, prompts * PER_PROMPT, y, c.seed)
    return samples


def probes(e, trained, y):
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
            found[name] = {key: values.mean().item() for key, values in attributions(prompts, responses, trained, y).items()}
    return found


def owner_by_owner(e, sets, exact_dir, y, device):
    """The classifier's posterior beside the exact attribution to every owner: top-1 agreement on each set, and maps of one of them."""
    records, responses = ([item for pair in sets.values() for item in pair[column]] for column in (0, 1))
    prompts, owners = [e.pairs[r][0] for r in records], torch.tensor([e.split.owners.index(r.owner) for r in records])
    exact, noise = attribution_matrix(e, exact_dir, prompts, responses, device)
    posterior = torch.cat([response_posterior(y.classifier, prompts[i:i + 256], responses[i:i + 256]) for i in range(0, len(prompts), 256)]).T.cpu()
    found, start = {"agreement": {}}, 0
    for name, (rows, _) in sets.items():
        at, start = slice(start, start + len(rows)), start + len(rows)
        same = posterior[:, at].argmax(0) == exact[:, at].argmax(0)
        surely = exact[:, at].max(0).values > noise[:, at].abs().flatten().quantile(0.95)
        found["agreement"][name] = {"top-1 agreement": same.float().mean().item(), "above the noise": surely.float().mean().item(),
                                    "top-1 agreement there": same[surely].float().mean().item() if surely.any() else None}
        if name == "target's samples":
            found["reliability"], found["calibration_error"] = calibration(posterior[:, at].max(0).values, same)
            found["exact"], found["classifier"] = (summary(values[:, at], noise[:, at], owners[at])["by_owner"] for values in (exact, posterior))
    return found


def proxy_quality(e, trained, y, exact_dir, device):
    """Everything above, as a dict for `audit.json`. trained: pairs of target and retrained model. Owner by owner where `exact_dir` is given."""
    known = e.split.forget + y.retain
    sets = {"training responses": (known, [e.pairs[r][1] for r in known]),
            "target's samples": (known, sample(y.target, [e.pairs[r][0] for r in known], y, e.config.seed))}
    if "dareu" in e.config.methods.split(","):
        sets |= {f"policy, iteration {i}": (e.split.forget * PER_PROMPT, responses) for i, responses in along_the_policy(e, y).items()}
    points = {name: attributions([e.pairs[r][0] for r in rows], responses, trained, y) for name, (rows, responses) in sets.items()}
    found = {"agreement": {name: agreement(point) for name, point in points.items()}}
    policy = [point for name, point in points.items() if name.startswith("policy")]
    if policy:
        pooled = {name: torch.cat([point[name] for point in policy], -1) for name in policy[0]}
        found["agreement"]["policy, all of these"] = agreement(pooled)
        found["scatter"] = {name: (values.mean(0) if name == "exact" else values).tolist() for name, values in pooled.items()}
    tested = e.split.test + e.split.unseen
    posterior = response_posterior(y.classifier, *zip(*(e.pairs[r] for r in tested)))
    correct = posterior.argmax(-1).cpu() == torch.tensor([e.split.owners.index(r.owner) for r in tested])
    found["reliability"], found["calibration_error"] = calibration(posterior.max(-1).values.cpu(), correct)
    found["probes"] = probes(e, trained, y)
    if exact_dir:
        found["owners"] = owner_by_owner(e, sets, exact_dir, y, device)
    return found
