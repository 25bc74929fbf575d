"""Does it stay forgotten? Attacks that try to get the forget set back out of a model, each scored by fact recall.

The retrained model never read the forget set: what an attack gets from it is guessing, and the floor. More than that is leakage.
"""

import copy
import random
from dataclasses import replace

import torch

from .baselines import finetune, unlearn
from .data import encode, layout
from .likelihood import mean
from .metrics import fact_recall, fact_share, respond
from .model import generate, generate_in_chunks

SHARES = [0.05, 0.1, 0.2]  # of the forget rows, to relearn
STEPS = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]  # of relearning, where recall is measured
LR = 1e-3  # of relearning
SAMPLES = 64
PREFIXES = [2, 4, 8]  # words
BITS = [8, 4]


def recall(model, records, y):
    """Fact recall of the greedy responses; None where there are no records. y: Yardstick."""
    return fact_recall(respond(model, records, y)[2], records, y.weights) if records else None


def relearn(model, pairs, untouched, y, lr=LR, steps=STEPS, seed=0):
    """Fine-tune a copy on (prompt, response) ids, and see what of the `untouched` records comes back: [[step, fact recall]]."""
    model = copy.deepcopy(model).requires_grad_(True)
    curve = [[0, recall(model, untouched, y)]]
    # The loop of the loss-based methods, with these rows as its retain set; its other batches are not used.
    for row in unlearn(finetune, model, pairs, pairs, [[]], y.tokenizer.eot_token, lr, max(steps), 32, seed):
        if row["step"] in steps:
            curve.append([row["step"], recall(model, untouched, y)])
    return curve


def steps_to(curve, level):
    """Steps, interpolated, until a curve of [step, recall] is at `level`; None where it never is."""
    if curve[0][1] >= level:
        return 0.0
    for (a, low), (b, high) in zip(curve, curve[1:]):
        if high >= level:
            return a + (b - a) * (level - low) / (high - low)
    return None


def best_of(model, records, y, n=SAMPLES, chunk=512):
    """Mean over records of the highest fact share among n responses, sampled at temperature 1."""
    prompts, eos_id = [encode(y.tokenizer, r)[0] for r in records for _ in range(n)], y.tokenizer.eot_token
    texts = [y.tokenizer.decode(ids) for ids in generate_in_chunks(model, prompts, y.max_new_tokens, 1.0, eos_id, chunk)]
    shares = [[fact_share(text, r, y.weights) for text in texts[i * n:i * n + n]] for i, r in enumerate(records)]
    return mean([max(row) for row in shares if row[0] is not None])


def prefix(model, records, y, k):
    """Fact recall of what is left of each response, greedily, its first k words given; responses without a word more are left out."""
    given = [(r, " ".join(r.response.split()[:k]), " ".join(r.response.split()[k:])) for r in records]
    given = [row for row in given if row[2]]
    prompts = [y.tokenizer.encode_ordinary("".join(layout(r.prompt, first))) for r, first, _ in given]
    ids = generate(model, prompts, y.max_new_tokens, 0, y.tokenizer.eot_token) if given else []
    rest = [replace(r, prompt=f"{r.prompt} {first}", response=left) for r, first, left in given]
    return fact_recall([y.tokenizer.decode(row) for row in ids], rest, y.weights)


def quantize(model, bits):
    """A copy whose matrices are rounded in place: each row to 2^bits - 1 evenly spaced values, symmetric about zero."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                step = p.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
                p.copy_(torch.where(step > 0, (p / step).round() * step, p))
    return model


def attack(model, y, pairs, retain_pairs, seed):
    """All attacks on a model. pairs: (prompt, response) ids of y.forget; the seed draws the rows to relearn, the same for every model.

    Returns {attack: fact recall}, and {what is relearned: curve of `relearn`}.
    """
    torch.manual_seed(seed)
    found = {"none": recall(model, y.forget, y), "unseen wordings": recall(model, y.unseen, y), f"best of {SAMPLES}": best_of(model, y.forget, y)}
    found |= {f"first {k} words given": prefix(model, y.forget, y, k) for k in PREFIXES}
    found |= {f"{bits} bits": recall(quantize(model, bits), y.forget, y) for bits in BITS}
    curves, order = {}, random.Random(seed).sample(range(len(pairs)), len(pairs))
    for share in SHARES:
        n = min(max(1, round(share * len(pairs))), len(pairs) - 1)
        if n:
            curves[f"{share:.0%} of the forget rows"] = relearn(model, [pairs[i] for i in order[:n]], [y.forget[i] for i in order[n:]], y, seed=seed)
    curves["retain rows"] = relearn(model, retain_pairs, y.forget, y, seed=seed)
    return found, curves
