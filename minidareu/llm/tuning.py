"""Fine-tuning of a pretrained model."""

import random
import time

import torch
from tqdm import tqdm

from ..baselines import cross_entropy
from ..dareu import Kept, distillation_loss
from ..data import Pair, batches
from ..files import InputError
from ..model import Training, descend, pack, packed_log_probs
from .policy import LLM

SOURCES = "baselines data files model rl llm/loading llm/policy llm/tuning".split()


def fine_tune(policy: LLM, rows: list[Pair], training: Training, **bar) -> int:
    """Fit `policy` in place to responses, end of text included, after their prompts: the mean of
    -log p over their tokens, by AdamW, whose rate falls to zero in a line. bar: keywords of tqdm.
    Returns the passes; without rows, none.
    """
    torch.manual_seed(training.seed)
    rng, lengths = random.Random(training.seed), [len(x) + len(y) for x, y in rows]
    n_passes = training.epochs or 1
    steps = [batch for _ in range(n_passes) for batch in batches(lengths, training.batch_size, rng)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=training.lr, weight_decay=0)
    policy.base.dropout = True
    for step, batch in enumerate(tqdm(steps, **bar)):
        optimizer.param_groups[0]["lr"] = training.lr * (1 - step / len(steps))
        prompts, responses = [rows[i][0] for i in batch], [rows[i][1] for i in batch]
        descend(optimizer, cross_entropy(policy, pack(prompts, responses, policy.device)))
    policy.base.dropout = False
    return n_passes if rows else 0


def trial_step(policy: LLM, rows: list[Pair], size: int) -> float:
    """Seconds a row of a step on the longest rows, of which nothing stays: of a distillation, as
    DareU makes. Raises InputError where the device has too little memory for it."""
    longest = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))[-size:]
    batch = pack([x for x, _ in longest], [y for _, y in longest], policy.device)
    try:
        with torch.no_grad():
            kept = Kept(batch, packed_log_probs(policy, batch))
        began = time.perf_counter()
        distillation_loss(policy, kept).backward()
        return (time.perf_counter() - began) / len(longest)
    except torch.OutOfMemoryError:
        raise InputError(
            f"a step on {size} rows is too large for the device's memory; give a smaller --batch-"
            "size, --forget-batch or --retain-batch, or add --checkpointing or --bf16"
        ) from None
