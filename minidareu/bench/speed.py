"""Training and generation beside transformers, on the default data."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import torch

from ..data import batches
from ..model import GPT, GPTConfig, Training, generate
from ..pretrain import train_lm
from ..report.markdown import spread
from ..run.flags import parse
from ..run.pool import DATA
from ..run.prepare import prepare
from ..run.stages import new_gpt
from . import peers

WIDTHS = [96, 128, 256]
BATCHES = [1, 16, 128, 512]
N_ROWS = 640  # of a training epoch that is timed


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work()` takes, the accelerator's share included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turn(first: Callable, second: Callable, repeats: int) -> list[tuple[float, float]]:
    """Seconds of two functions that run in turn, so that whatever else the machine does slows both
    alike; after one run of each to warm up."""
    first(), second()
    return [(seconds_of(first), seconds_of(second)) for _ in range(repeats)]


def training(run, width: int, repeats: int) -> tuple[float, list[float]]:
    """Tokens a second of an epoch of `train_lm`, and how many times as long a plain loop with
    transformers takes on batches of the same rows."""
    pairs, size = random.Random(0).sample(run.ended(run.train), N_ROWS), run.config.batch_size
    rows = [x + y for x, y in pairs]
    same = [[rows[i] for i in b] for b in batches([len(r) for r in rows], size, random.Random(0))]
    config = GPTConfig(run.tokenizer.n_vocab, run.config.block_size, n_layer=2, n_embd=width)
    model = GPT(config).to(run.device)
    ours = partial(train_lm, model, pairs, Training(1, size, lr=1e-3, seed=0))
    theirs = partial(peers.train_epoch, peers.gpt2_of(model), same, 1e-3)
    pairs_of_seconds = in_turn(ours, theirs, repeats)
    n_tokens = sum(map(len, rows))
    speed = n_tokens / median(own for own, _ in pairs_of_seconds)
    return speed, [other / own for own, other in pairs_of_seconds]


def generation(run, model: GPT, size: int, repeats: int) -> tuple[float, list[float]]:
    """The same for `generate` and transformers' with its cache, by the seconds of a token.

    model: one that has learned where responses end.
    """
    peer, limits = peers.gpt2_of(model).eval(), run.limits
    prompts = [run.pairs[r][0] for r in random.Random(size).sample(run.train, size)]
    tokens = {"own": 0, "peer": 0}

    def ours():
        new = generate(model, prompts, temperature=1.0, **limits)
        tokens["own"] = sum(min(len(y) + 1, limits["max_new_tokens"]) for y in new)

    def theirs():
        tokens["peer"] = peers.sample(peer, prompts, temperature=1.0, **limits)

    ours(), theirs()
    own, other = [], []
    for _ in range(repeats):
        own.append(seconds_of(ours) / tokens["own"])
        other.append(seconds_of(theirs) / tokens["peer"])
    return 1 / median(own), [b / a for a, b in zip(own, other, strict=True)]


def beside_peers(device: str, repeats: int):
    """Head and rows of the table, and its figures."""
    run = prepare(parse(["--data", str(DATA), "--device", device, "--out", "runs/bench"], ""))
    lines, figures = [], {}
    for width in WIDTHS:
        figures[f"training, width {width}"] = training(run, width, repeats)
    model = new_gpt(run)
    train_lm(model, run.ended(run.train), replace(run.config.training, epochs=2))
    for size in BATCHES:
        figures[f"generation, batch {size}"] = generation(run, model, size, repeats)
    for title, (speed, ratios) in figures.items():
        lines.append([title, f"{speed:,.0f}", spread(ratios)])
    return ["", "tokens/s", "times as long: transformers"], lines, figures
