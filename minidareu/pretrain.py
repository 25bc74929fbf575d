"""Supervised training from scratch: makes the target model, and without the forget owners the retrained model."""

import math
import random

import torch
import torch.nn.functional as F
from tqdm import tqdm

from .data import batches
from .model import GPT, pad


def train_lm(model_config, sequences, epochs, batch_size, lr, seed, device, name):
    """Next-token cross-entropy on whole sequences (lists of ids), by AdamW with warm-up and cosine decay -> GPT.

    name: of the progress bar; None shows none."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = GPT(model_config).to(device)
    steps = epochs * math.ceil(len(sequences) / batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.05 * steps), 0.5 * (1 + math.cos(math.pi * step / steps))))
    bar = tqdm(total=steps, desc=name, disable=None if name else True)
    for _ in range(epochs):
        for batch in batches([len(ids) for ids in sequences], batch_size, rng):
            idx = pad([sequences[i] for i in batch], -1, device)
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
    return model
