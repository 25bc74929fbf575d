"""Does it stay forgotten? Attacks that try to get the forget set back out of a model.

Each is scored by fact recall. The retrained model never read the forget set: what an attack gets
from it is guessing, and the floor. More than that is leakage.
"""

import copy
import math
import random
from dataclasses import replace

import torch

from ..baselines import METHODS
from ..data import Task, encode
from ..metrics import fact_recall, fact_share
from ..run.flags import Config
from ..scores.chunks import generate_in_chunks
from ..scores.evaluation import recall_after_words, respond
from ..scores.likelihood import mean

LR = 1e-3  # of relearning
SAMPLES = 64
PREFIXES = [2, 4, 8]  # words
BITS = [8, 4]
# What is relearned: a share of the forget rows (0: retain rows instead), and in how many steps.
RELEARNED = {"a tenth of D_F relearned": (0.1, 16), "D_R relearned": (0, 64)}


def recall(model, records, evaluator):
    """Fact recall of the greedy responses; None where there are no records."""
    if not records:
        return None
    texts = respond(model, records, evaluator).texts
    return fact_recall(texts, records, evaluator.word_weights)


def relearn(model, pairs, untouched, evaluator, config, *, steps, score=recall):
    """Fine-tune a copy on (prompt, response) ids, and see what of the `untouched` records returns.

    config: baseline_lr, batch_size and seed; score(model, records, evaluator): fact recall, or
    another. Returns a list of [step, score].
    """
    model = copy.deepcopy(model).requires_grad_(True)
    curve = [[0, score(model, untouched, evaluator)]]
    # The loop of the loss-based methods, with these rows as its retain set.
    task = Task([], pairs, references=pairs, refusals=[[]], **evaluator.limits)
    config = replace(config, baseline_steps=max(steps))
    for row in METHODS["finetune"](model, task, config):
        if row["step"] in steps:
            curve.append([row["step"], score(model, untouched, evaluator)])
    return curve


def best_of(model, records, evaluator, n):
    """Mean over records of the highest fact share among n responses, sampled at temperature 1."""
    tokenizer, weights = evaluator.tokenizer, evaluator.word_weights
    prompts = [encode(tokenizer, r)[0] for r in records for _ in range(n)]
    ids = generate_in_chunks(model, prompts, temperature=1.0, chunk=512, **evaluator.limits)
    texts = [tokenizer.decode(y) for y in ids]
    best = []
    for i, r in enumerate(records):
        shares = [fact_share(text, r, weights) for text in texts[i * n : (i + 1) * n]]
        if shares[0] is not None:
            best.append(max(shares))
    return mean(best)


def quantize(model, bits):
    """A copy whose matrices are rounded: each row to 2^bits - 1 even steps, symmetric about 0."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                step = p.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
                p.copy_(torch.where(step > 0, (p / step).round() * step, p))
    return model


def attack(model, evaluator, pairs, retain_pairs, seed):
    """{attack: fact recall} of a model. pairs: (prompt, response) ids of the evaluator's forget
    rows. The seed draws the rows to relearn, the same for every model."""
    torch.manual_seed(seed)
    e, forget = evaluator, evaluator.forget
    found = {
        "none": recall(model, forget, e),
        "unseen wordings": recall(model, e.unseen, e),
        f"best of {SAMPLES}": best_of(model, forget, e, SAMPLES),
    }
    for k in PREFIXES:
        found[f"first {k} words given"] = recall_after_words(model, forget, e, k)
    for bits in BITS:
        found[f"{bits} bits"] = recall(quantize(model, bits), forget, e)
    config = Config(baseline_lr=LR, batch_size=32, seed=seed)
    order = random.Random(seed).sample(range(len(pairs)), len(pairs))
    for title, (share, n_steps) in RELEARNED.items():
        n = min(math.ceil(share * len(pairs)), len(pairs) - 1)
        shown = [pairs[i] for i in order[:n]] or retain_pairs
        untouched = [forget[i] for i in order[n:]]
        curve = relearn(model, shown, untouched, e, config=config, steps=[n_steps])
        found[title] = curve[-1][1]
    return found
