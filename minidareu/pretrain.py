"""Supervised training from scratch, until a model knows its rows: the original model, and without
the forget owners the retrained model."""

import math
import random

import torch
import torch.nn.functional as F
from tqdm import tqdm

from .data import Pair, batches
from .files import InputError
from .model import GPT, GPTConfig, Training, descend, pad

KNOWN = 0.96  # share of a pass's response tokens that were the likeliest: the rows are known
DECAY = 0.3  # then the rate falls to zero over so many further steps, as a share of those so far
MOST_PASSES, MOST_ROWS = 120, 400_000  # to read, where they never are, or where there are many


def learning_rate(step: int, warm_up: int, begin: float, end: float) -> float:
    """Share of the peak rate: it rises, stays, and from `begin` on falls to zero at `end`.

    Of the three only the last has to know where the end is (WSD, Hu et al. 2024).
    """
    falling = (end - step) / (end - begin) if step > begin else 1.0
    return min((step + 1) / warm_up, falling, 1.0)


def train_lm(
    config: GPTConfig, rows: list[Pair], training: Training, device: str, **bar: object
) -> tuple[GPT, float]:
    """Next-token cross-entropy by AdamW until the rows are known: the model, and how many passes.

    rows: prompts, and responses with the end of text. training.epochs: the passes, where they are
    given. bar: keywords of tqdm; none, no bar. Raises InputError where training diverges.
    """
    torch.manual_seed(training.seed)
    rng = random.Random(training.seed)
    model = GPT(config).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    lengths = [len(x + y) for x, y in rows]
    n_batches = math.ceil(len(rows) / training.batch_size)
    most = max(8, min(MOST_PASSES, MOST_ROWS // len(rows))) * n_batches
    end = training.epochs * n_batches if training.epochs else math.inf
    begin = end / (1 + DECAY)
    n_steps = end if training.epochs else most
    progress = tqdm(total=n_steps, **{"disable": None if bar else True, **bar})
    step = 0
    while step < end:
        n_known = n_tokens = 0
        for batch in batches(lengths, training.batch_size, rng):
            rate = learning_rate(step, min(100, n_batches), begin, end)
            optimizer.param_groups[0]["lr"] = training.lr * rate
            loss, known = next_token_loss(model, [rows[i] for i in batch])
            descend(optimizer, loss)
            step += 1
            n_known, n_tokens = n_known + known, n_tokens + sum(len(rows[i][1]) for i in batch)
            progress.update()
            progress.set_postfix(loss=f"{loss.item():.3f}", known=f"{n_known / n_tokens:.2f}")
        if end == math.inf and (n_known >= KNOWN * n_tokens or (1 + DECAY) * step >= most):
            begin = step
            end = n_batches * math.ceil((1 + DECAY) * step / n_batches)  # whole passes
            progress.total = end
    progress.close()
    if not loss <= 2 * math.log(config.vocab_size):  # twice that of guessing; so too if no number
        name = bar.get("desc", "a model")
        raise InputError(f"{name}: its training diverged (loss {loss:.3g}); give a smaller --lr")
    return model, step / n_batches


def next_token_loss(model: GPT, rows: list[Pair]) -> tuple[torch.Tensor, int]:
    """The mean of -log p over all tokens, and how many of the responses' are the likeliest."""
    idx = pad([x + y for x, y in rows], value=-1, device=model.device)
    start = pad([[len(x)] for x, _ in rows], device=model.device)  # of each response, (B, 1)
    target = idx[:, 1:]
    logits = model(idx[:, :-1].clamp(min=0))
    of_response = torch.arange(1, idx.size(1), device=model.device) >= start
    known = (logits.argmax(dim=-1) == target) & of_response  # padding, -1, never is
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)
    return loss, int(known.sum())
