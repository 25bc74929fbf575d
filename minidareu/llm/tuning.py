"""Fine-tuning of a pretrained model."""

import random
import time

import torch
from tqdm import tqdm

from ..baselines import cross_entropy
from ..data import Pair, batches
from ..files import InputError
from ..model import Training, descend, pack
from .policy import LLM

SOURCES = "baselines data files model rl llm/loading llm/policy llm/tuning".split()


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


def trial_step(policy: LLM, rows: list[Pair], size: int) -> float:
    """Seconds of a training step on the longest rows, of which nothing stays. Raises InputError
    where the device's memory is too small for it."""
    longest = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))[-size:]
    prompts, responses = [x for x, _ in longest], [y for _, y in longest]
    began = time.perf_counter()
    try:
        cross_entropy(policy, pack(prompts, responses, policy.device)).backward()
    except torch.OutOfMemoryError:
        raise InputError(
            f"--batch-size {size}: a step is too large for the device's memory; give a smaller "
            "one, or add --checkpointing or --bf16"
        ) from None
    return time.perf_counter() - began
