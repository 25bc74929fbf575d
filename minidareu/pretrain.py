"""Supervised training from scratch: the original model, and without the forget owners the
retrained model."""

import math
import random

import torch
import torch.nn.functional as F
from tqdm import tqdm

from .data import Ids, batches
from .files import InputError
from .model import GPT, GPTConfig, Training, pad


def train_lm(
    model_config: GPTConfig,
    sequences: list[Ids],
    training: Training,
    device: str,
    name: str | None = None,
) -> GPT:
    """Next-token cross-entropy on whole sequences, by AdamW with warm-up and cosine decay.

    name: of the progress bar; None shows none. Raises InputError where the last loss is no
    number, or above twice that of guessing.
    """
    torch.manual_seed(training.seed)
    rng = random.Random(training.seed)
    model = GPT(model_config).to(device)
    lengths = [len(ids) for ids in sequences]
    steps = training.epochs * math.ceil(len(sequences) / training.batch_size)

    def learning_rate(step):
        warm_up = (step + 1) / (0.05 * steps)
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        return min(warm_up, decay)

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)
    bar = tqdm(total=steps, desc=name, disable=None if name else True)
    for _ in range(training.epochs):
        for batch in batches(lengths, training.batch_size, rng):
            idx = pad([sequences[i] for i in batch], value=-1, device=device)
            logits = model(idx[:, :-1].clamp(min=0))
            loss = F.cross_entropy(logits.flatten(0, 1), idx[:, 1:].flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()
    guessing = math.log(model_config.vocab_size)
    if not loss <= 2 * guessing:  # so too where it is no number
        raise InputError(
            f"{name or 'a model'}: its training diverged: the last loss is {loss.item():.3g}, that "
            f"of guessing {guessing:.3g}; give a smaller --lr"
        )
    return model
