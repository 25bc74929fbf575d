"""Fine-tuning of a pretrained model."""

import random

import torch
from tqdm import tqdm

from ..baselines import cross_entropy
from ..data import Pair, batches
from ..model import Training, descend, pack
from .policy import LLM


SOURCES = ["baselines", "data", "files", "model", "rl"]
SOURCES += [f"llm/{name}" for name in ("loading", "policy", "tuning")]


def fine_tune(policy: LLM, rows: list[Pair], training: Training, **bar) -> int:
    """Fit `policy` in place to responses, end of text included, after their prompts: the mean of
    -log p over their tokens, by AdamW, whose rate falls to zero in a line. bar: keywords of tqdm.
    Returns the passes; without rows, none.
    """
    torch.manual_seed(training.seed)
    rng, lengths = random.Random(training.seed), [len(x) + len(y) for x, y in rows]
    size, n_passes = training.batch_size, training.epochs or 1
    steps = [batch for _ in range(n_passes) for batch in batches(lengths, size, rng)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=training.lr, weight_decay=0)
    policy.base.dropout = True
    for step, batch in enumerate(tqdm(steps, **bar)):
        optimizer.param_groups[0]["lr"] = training.lr * (1 - step / len(steps))
        prompts, responses = [rows[i][0] for i in batch], [rows[i][1] for i in batch]
        descend(optimizer, cross_entropy(policy, pack(prompts, responses, policy.device)))
    policy.base.dropout = False
    return n_passes if rows else 0
