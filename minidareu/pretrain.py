"""Supervised training from scratch, until a model knows its rows: the original model, without the
forget owners the retrained model, and the attribution classifier."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .data import Pair, batches
from .files import InputError
from .model import GPT, Training, descend, pad

SOURCES = ["data", "files", "model", "pretrain"]  # whose edit trains the language models again
KNOWN = 0.96  # share of a pass's questions that were answered right: the rows are known
DECAY = 0.3  # then the rate falls to zero over so many further steps, as a share of those so far
MOST_PASSES, MOST_ROWS = 120, 400_000  # to read, where they never are, or where there are many


@dataclass
class ModelConfig:
    """The language models."""

    n_layer: int = 2  # layers
    n_embd: int | None = None  # width; by the size of the data: 96, 128, 192
    epochs: int | None = None  # passes over the rows; default: until they are known
    batch_size: int = 16  # rows in a training step
    lr: float | None = None  # peak learning rate; default: 0.34 / width


def learning_rate(step: int, warm_up: int, begin: float, end: float) -> float:
    """Share of the peak rate: it rises, stays, and from `begin` on falls to zero at `end`.

    Of the three only the last has to know where the end is (WSD, Hu et al. 2024).
    """
    falling = (end - step) / (end - begin) if step > begin else 1.0
    return min((step + 1) / warm_up, falling, 1.0)


def train_until_known(
    model: nn.Module,
    lengths: list[int],
    batch_loss: Callable[[list[int]], tuple[Tensor, int, int]],
    training: Training,
    **bar: object,
) -> tuple[float, float]:
    """Minimise `batch_loss` by AdamW until the rows are known: how many passes, and the last loss.

    lengths: of the rows in tokens; a batch has rows of similar length. batch_loss(rows): the loss
    of these rows (indices), how many of its questions the model answered right, and how many there
    were. training.epochs: the passes, where they are given. bar: keywords of tqdm; none, no bar.
    """
    rng = random.Random(training.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    n_batches = math.ceil(len(lengths) / training.batch_size)
    most = max(8, min(MOST_PASSES, MOST_ROWS // len(lengths))) * n_batches
    end = training.epochs * n_batches if training.epochs else math.inf
    begin = end / (1 + DECAY)
    n_steps = end if training.epochs else most
    progress = tqdm(total=n_steps, **{"disable": None if bar else True, **bar})
    step = 0
    while step < end:
        n_right = n_asked = 0
        for rows in batches(lengths, training.batch_size, rng):
            rate = learning_rate(step, min(100, n_batches), begin, end)
            optimizer.param_groups[0]["lr"] = training.lr * rate
            loss, right, asked = batch_loss(rows)
            descend(optimizer, loss)
            step += 1
            n_right, n_asked = n_right + right, n_asked + asked
            progress.update()
            progress.set_postfix(loss=f"{loss.item():.3f}", known=f"{n_right / n_asked:.2f}")
        if end == math.inf and (n_right >= KNOWN * n_asked or (1 + DECAY) * step >= most):
            begin = step
            end = n_batches * math.ceil((1 + DECAY) * step / n_batches)  # whole passes
            progress.total = end
    progress.close()
    return step / n_batches, loss.item()


def train_lm(model: GPT, rows: list[Pair], training: Training, **bar: object) -> float:
    """Fit `model` in place by next-token cross-entropy until it knows the rows: how many passes.

    rows: prompts, and responses with the end of text; a question is a token of a response. The
    rest as `train_until_known`. Raises InputError where training diverges.
    """
    lengths = [len(x + y) for x, y in rows]

    def batch_loss(batch: list[int]) -> tuple[Tensor, int, int]:
        return next_token_loss(model, [rows[i] for i in batch])

    passes, loss = train_until_known(model, lengths, batch_loss, training, **bar)
    if not loss <= 2 * math.log(
        model.config.vocab_size
    ):  # twice that of guessing; so too if no number
        name = bar.get("desc", "a model")
        raise InputError(f"{name}: its training diverged (loss {loss:.3g}); give a smaller --lr")
    return passes


def next_token_loss(model: GPT, rows: list[Pair]) -> tuple[Tensor, int, int]:
    """The mean of -log p over all tokens; how many of the responses' were the likeliest, of how
    many."""
    idx = pad([x + y for x, y in rows], value=-1, device=model.device)
    start = pad([[len(x)] for x, _ in rows], device=model.device)  # of each response, (B, 1)
    target = idx[:, 1:]
    logits = model(idx[:, :-1].clamp(min=0))
    of_response = torch.arange(1, idx.size(1), device=model.device) >= start
    known = (logits.argmax(dim=-1) == target) & of_response  # padding, -1, never is
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1)
    return loss, int(known.sum()), sum(len(y) for _, y in rows)
