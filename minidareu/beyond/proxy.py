"""How good is the proxy? The classifiers' attribution beside the exact one, where both can be had.

Exact here is the attribution to the forget set: log p(y | x) under the original model minus that
under the retrained model, a token, and a mean over pairs of the two by several seeds. One pair
alone says much about its luck, and less about the data. With the models of
`python -m minidareu.beyond.exact` the classifier is compared owner by owner too.
"""

import copy
import random

import torch

from ..data import encode
from ..metrics import holds_name, name_pattern, words
from ..scores.chunks import generate_in_chunks, response_posterior
from ..scores.likelihood import auc
from . import dareu_plus
from .exact import attribution_matrix, mean_logp, summary
from .rewards import plus_attribution

PER_PROMPT = 4  # samples of the policy to each forget prompt
OWES = 0.1  # nats a token; where every seed agrees, less than this would still be above the noise
SAMPLES = "original model's samples"


def ranks(x):
    """Ranks from 1, ties sharing their mean: (N,) -> (N,)."""
    below = (x[:, None] > x).sum(dim=1)
    same = (x[:, None] == x).sum(dim=1)
    return below + (same + 1).double() / 2


def spearman(x, y):
    """Spearman's rank correlation: Pearson's of the ranks. (N,), (N,) -> float.

    None where one of them is constant.
    """
    r = torch.corrcoef(torch.stack([ranks(x.double()), ranks(y.double())]))[0, 1].item()
    return r if r == r else None


def calibration(confidence, correct, n_bins=10):
    """Reliability diagram and expected calibration error (Guo et al. 2017).

    confidence (N,), correct (N,) of 0 and 1. Returns a row for each bin that is not empty (mean
    confidence, share correct, share of the responses), and the mean distance of the first two.
    """
    bins = (confidence * n_bins).long().clamp(max=n_bins - 1)
    rows = []
    for b in bins.unique().tolist():
        inside = bins == b
        accuracy = correct[inside].float().mean().item()
        rows.append([confidence[inside].mean().item(), accuracy, inside.float().mean().item()])
    error = sum(share * abs(mean - accuracy) for mean, accuracy, share in rows)
    return rows, error


def attributions(prompts, responses, pairs, evaluator):
    """To the forget owners, of lists of ids: {exact: (pairs, N), classifier, judge: (N,)}.

    pairs: (original, retrained model) of several seeds.
    """
    e = evaluator
    prompt_texts = [e.tokenizer.decode(x).strip() for x in prompts]
    response_texts = [e.tokenizer.decode(y).strip() for y in responses]
    exact = [
        mean_logp(original, prompts, responses) - mean_logp(retrained, prompts, responses)
        for original, retrained in pairs
    ]
    posterior = response_posterior(e.classifier, prompts, responses)
    return {
        "exact": torch.stack(exact),
        "classifier": posterior[:, e.forget_owners].sum(dim=1).cpu(),
        "judge": e.judge.attribution(prompt_texts, response_texts, e.forget_owners),
    }


def agreement(found):
    """How every proxy agrees with the exact attribution.

    Spearman's correlation; and the AUC of telling the responses that owe something to the forget
    set, their exact attribution above OWES and above twice its standard error over seeds. "another
    seed": the correlation of one seed's exact attribution with that of the others, the most that
    can be asked for.
    """
    exact, n = found["exact"], len(found["exact"])
    mean = exact.mean(dim=0)
    proxies = {name: values for name, values in found.items() if name != "exact"}
    error = exact.std(dim=0) / n**0.5 if n > 1 else torch.full_like(mean, float("inf"))
    owes = mean > (2 * error).clamp(min=OWES)
    correlations = {name: spearman(values, mean) for name, values in proxies.items()}
    seeds = []
    for i in range(n) if n > 1 else []:
        others = torch.cat([exact[:i], exact[i + 1 :]]).mean(dim=0)
        seeds.append(spearman(exact[i], others))
    known = seeds and None not in seeds
    correlations["another seed"] = sum(seeds) / len(seeds) if known else None
    areas = dict.fromkeys(proxies)
    if 0 < owes.sum() < len(owes):
        for name, values in proxies.items():
            areas[name] = auc(values[owes].tolist(), values[~owes].tolist())
    return {
        "spearman": correlations,
        "owes": owes.float().mean().item(),
        "mean": {name: values.mean().item() for name, values in found.items()},
        "auc": areas,
    }


def sample(model, prompts, evaluator, seed):
    """One response to each prompt at temperature 1; the random generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return generate_in_chunks(model, prompts, temperature=1.0, chunk=512, **evaluator.limits)


def along_the_policy(run, evaluator):
    """DareU+ again, from the original model: {update: the policy's samples after it}."""
    policy = copy.deepcopy(evaluator.original).requires_grad_(True)
    forget, retain = run.queries(run.split.forget), run.references(run.split.retain)

    attribute = plus_attribution(run, evaluator.classifier)
    samples = {}
    updates = dareu_plus.unlearn(
        policy, attribute, forget, retain, limits=run.limits, config=run.config
    )
    for row in updates:
        step = row["step"]
        if step & (step - 1) == 0 or step == run.config.plus_updates:
            prompts = [x for x, _ in forget] * PER_PROMPT
            samples[step] = sample(policy, prompts, evaluator, run.config.seed)
    return samples


def rename(text, owner, other):
    """A text with another owner's name in the place of the owner's, as a whole word."""
    return name_pattern(owner).sub(lambda match: other, text)


def probes(run, trained, evaluator):
    """Mean attributions of responses to the forget prompts, some made to mislead."""
    rng, rows, weights = random.Random(run.config.seed), run.split.forget, evaluator.word_weights
    others = [name for name in run.split.owners if name not in run.split.forget_owners]

    def informative(r):
        return sum(weights.get(w, 0) for w in set(words(r.response)) - set(words(r.prompt)))

    def shuffled(text):
        return " ".join(rng.sample(text.split(), len(text.split())))

    common = sorted(rows, key=informative)[: max(1, len(rows) // 4)]
    named = [r for r in rows if holds_name(r.response, r.owner)]
    kinds = {
        "the truth": [(r, r.response) for r in rows],
        "the truth, the quarter that most owners share": [(r, r.response) for r in common],
        "the truth under another name": [
            (r, rename(r.response, r.owner, rng.choice(others))) for r in named
        ],
        "the truth, words shuffled": [(r, shuffled(r.response)) for r in rows],
        "a wrong fact": [(r, r.perturbed[0]) for r in rows if r.perturbed],
        "words of retain responses, shuffled": [
            (r, shuffled(rng.choice(evaluator.retain).response)) for r in rows
        ],
    }
    found = {}
    for name, pairs in kinds.items():
        if pairs:
            ids = [encode(evaluator.tokenizer, r, text) for r, text in pairs]
            prompts, responses = [x for x, _ in ids], [y for _, y in ids]
            values = attributions(prompts, responses, trained, evaluator)
            found[name] = {key: value.mean().item() for key, value in values.items()}
    return found


def owner_by_owner(run, sets, exact_dir, evaluator):
    """The classifier's posterior beside the exact attribution to every owner.

    sets: {name: (records, responses)}. Top-1 agreement on each set, and maps of one of them.
    """
    records = [r for rows, _ in sets.values() for r in rows]
    responses = [y for _, part in sets.values() for y in part]
    prompts, _, owners = run.labelled(records)
    owners = torch.tensor(owners)
    exact, noise = attribution_matrix(run, exact_dir, prompts, responses)
    posterior = response_posterior(evaluator.classifier, prompts, responses).T.cpu()
    found, start = {"agreement": {}}, 0
    for name, (rows, _) in sets.items():
        at, start = slice(start, start + len(rows)), start + len(rows)
        same = posterior[:, at].argmax(dim=0) == exact[:, at].argmax(dim=0)
        floor = noise[:, at].abs().flatten().quantile(0.95)
        clear = exact[:, at].max(dim=0).values > floor
        found["agreement"][name] = {
            "top-1 agreement": same.float().mean().item(),
            "above the noise": clear.float().mean().item(),
            "top-1 agreement there": same[clear].float().mean().item() if clear.any() else None,
        }
        if name == SAMPLES:
            confidence = posterior[:, at].max(dim=0).values
            found["reliability"], found["calibration_error"] = calibration(confidence, same)
            for key, values in (("exact", exact), ("classifier", posterior)):
                found[key] = summary(values[:, at], noise[:, at], owners[at])["by_owner"]
    return found


def proxy_quality(run, trained, evaluator, exact_dir=None):
    """Everything above, as a dict for `audit.json`. trained: pairs of original and retrained model.

    Owner by owner where `exact_dir` is given.
    """
    e = evaluator
    known = e.forget + e.retain
    prompts, references, _ = run.labelled(known)
    sets = {
        "training responses": (known, references),
        SAMPLES: (known, sample(e.original, prompts, e, run.config.seed)),
    }
    if "dareu_plus" in run.methods:
        for step, responses in along_the_policy(run, e).items():
            sets[f"DareU+, update {step}"] = (e.forget * PER_PROMPT, responses)
    points = {
        name: attributions(run.labelled(rows)[0], responses, trained, e)
        for name, (rows, responses) in sets.items()
    }
    found = {"agreement": {name: agreement(point) for name, point in points.items()}}
    policy = [point for name, point in points.items() if name.startswith("DareU+")]
    if policy:
        pooled = {name: torch.cat([point[name] for point in policy], -1) for name in policy[0]}
        found["agreement"]["DareU+, all of these"] = agreement(pooled)
        scatter = {**pooled, "exact": pooled["exact"].mean(dim=0)}
        found["scatter"] = {name: values.tolist() for name, values in scatter.items()}
    prompts, responses, owners = run.labelled(run.split.test + run.split.unseen)
    posterior = response_posterior(e.classifier, prompts, responses).cpu()
    correct = posterior.argmax(dim=-1) == torch.tensor(owners)
    confidence = posterior.max(dim=-1).values
    found["reliability"], found["calibration_error"] = calibration(confidence, correct)
    found["probes"] = probes(run, trained, e)
    if exact_dir:
        found["owners"] = owner_by_owner(run, sets, exact_dir, e)
    return found
