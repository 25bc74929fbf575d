"""What each --size costs: parameters and memory counted, a training step timed, a GPU computed."""

from functools import partial

from ..model import GPT, GPTConfig, Training
from ..pretrain import train_lm
from ..run.defaults import SIZES
from .timing import seconds_of

TOKENS = 16 * 41_000  # that the default run reads to train one model
LENGTH = 32  # tokens of a row, about that of the default data
GPU = 10e12  # operations a second: a third of what a consumer GPU of 30 TFLOP/s promises


def sizes(device):
    """Times are of the two language models of a run. Memory: weights, gradients and AdamW's two
    moments, 16 bytes a parameter, and logits with their gradient."""
    lines, figures = [], {}
    for name, size in SIZES.items():
        config = GPTConfig(
            vocab_size=size["vocab_size"],
            block_size=128,
            n_layer=size["n_layer"],
            n_head=size.get("n_head", 4),
            n_embd=size["n_embd"],
        )
        batch = size.get("batch_size", 16)
        texts = [[(i * t) % config.vocab_size for t in range(LENGTH)] for i in range(batch)]
        rows = [(text[:8], text[8:]) for text in texts]
        n_parameters = sum(p.numel() for p in GPT(config).parameters())

        def train(epochs, config=config, rows=rows, batch=batch):
            train_lm(config, rows, Training(epochs, batch, lr=1e-4, seed=0), device)

        steps = 50 if n_parameters < 1e6 else 10 if n_parameters < 5e7 else 2
        train(1)
        setup = seconds_of(partial(train, 1))
        step = (seconds_of(partial(train, 1 + steps)) - setup) / steps
        memory = 16 * n_parameters + 8 * batch * LENGTH * config.vocab_size
        here = 2 * TOKENS * step / (batch * LENGTH)
        gpu = 2 * TOKENS * 6 * n_parameters / GPU
        figures[name] = {
            "parameters": n_parameters,
            "bytes": memory,
            "seconds a step": step,
            "seconds here": here,
            "seconds on a GPU, computed": gpu,
        }
        lines.append(
            [
                name,
                f"{n_parameters / 1e6:.1f} M",
                f"{memory / 1e9:.2f} GB",
                f"{1000 * step:.0f} ms",
                f"{here / 60:.1f} min",
                f"{gpu / 60:.2f} min",
            ]
        )
    head = [
        "size",
        "parameters",
        "memory, computed",
        "a step, measured",
        "both models, from it",
        "both on a GPU, computed",
    ]
    return head, lines, figures
