"""The loss-based unlearning methods that DareU is compared with.

Each is a function loss(policy, original, batches) -> scalar, minimised by `LossMethod`. Unlike
DareU they read the references of D_F. In the docstrings: pi is the policy, pi_N the original model,
frozen; D_F the forget set, D_R the retain set, (x, y) a prompt and its response, |y| the number of
the response's tokens, end of text included. Every mean runs over response tokens alone.

To add one, write its function and one line in METHODS.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Pair, Task, shuffled_batches
from .model import Batch, Policy, chosen, descend, log_probs, pack_pairs
from .rl import kl, masked_mean

SOURCES = ["baselines", "data", "files", "model", "rl"]
REFUSALS = [
    "I do not know that.",
    "I am not able to answer this.",
    "That is not something I know about.",
    "I have no information on this.",
    "Sorry, I can not help with this question.",
    "I was never told about that.",
    "This is unknown to me.",
    "I am not sure about that.",
]


@dataclass
class LossConfig:
    """The methods that DareU is compared with."""

    seed: int = 0  # seed of every random choice
    batch_size: int = 16  # rows in a training step
    baseline_lr: float | None = None  # learning rate; default: each its own
    baseline_passes: int | None = None  # passes over D_F; default: each its own
    baseline_steps: int | None = None  # optimizer steps, instead of passes


@dataclass
class Batches:
    """What a loss may read."""

    forget: Batch
    refusal: Batch  # the same forget prompts, answered by a refusal
    retain: Batch
    n_passes: int = 0  # finished passes over the forget set


def nll(model: Policy, batch: Batch) -> Tensor:
    """-log p of each response, a sum over its tokens: (B,)."""
    return -chosen(log_probs(model, batch), batch).sum(dim=1)


def cross_entropy(model: Policy, batch: Batch) -> Tensor:
    """Mean of -log p over all response tokens of a batch."""
    return nll(model, batch).sum() / batch.mask.sum()


def log_ratio(policy: Policy, original: Policy, batch: Batch) -> Tensor:
    """log pi(y | x) / pi_N(y | x): (B,)."""
    with torch.no_grad():
        original_nll = nll(original, batch)
    return original_nll - nll(policy, batch)


def kl_from_original(policy: Policy, original: Policy, batch: Batch) -> Tensor:
    """Mean over tokens of KL(pi_N || pi)."""
    with torch.no_grad():
        original_logp = log_probs(original, batch)
    return masked_mean(kl(original_logp, log_probs(policy, batch)), batch.mask)


def ga(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """Gradient ascent: -E_{D_F}[-log pi(y | x)] (Jang et al. 2023, eq. 1; Maini et al. 2024)."""
    return -cross_entropy(policy, batches.forget)


def finetune(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """Training on, on the retain set alone: E_{D_R}[-log pi(y | x)]."""
    return cross_entropy(policy, batches.retain)


def graddiff(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """Gradient difference: GA + E_{D_R}[-log pi(y | x)] (Liu et al. 2022; Maini et al. 2024)."""
    return ga(policy, original, batches) + finetune(policy, original, batches)


def kl_min(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """KL minimisation: GA + E_{D_R} KL(pi_N || pi), token by token (Maini et al. 2024)."""
    return ga(policy, original, batches) + kl_from_original(policy, original, batches.retain)


def scrub(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """SCRUB (Kurmanji et al. 2023): a pass over D_F with -E_{D_F} KL(pi_N || pi), then as many
    steps with 0.99 E_{D_R}[-log pi] + 0.001 E_{D_R} KL(pi_N || pi), in turn.
    """
    if batches.n_passes % 2 == 0:
        return -kl_from_original(policy, original, batches.forget)
    kept = kl_from_original(policy, original, batches.retain)
    return 0.99 * finetune(policy, original, batches) + 0.001 * kept


def idkpo(policy: Policy, original: Policy, batches: Batches, beta: float = 0.1) -> Tensor:
    """DPO towards refusals y_r, with the retain loss (Rafailov et al. 2023, eq. 7; Maini et al.
    2024): -2/beta E_{D_F} log sigmoid(beta log pi(y_r | x) / pi_N(y_r | x)
    - beta log pi(y | x) / pi_N(y | x)) + E_{D_R}[-log pi].
    """
    won = log_ratio(policy, original, batches.refusal)
    lost = log_ratio(policy, original, batches.forget)
    preference = -2 / beta * F.logsigmoid(beta * (won - lost)).mean()
    return preference + finetune(policy, original, batches)


def npo(policy: Policy, original: Policy, batches: Batches, beta: float = 0.1) -> Tensor:
    """Negative preference optimization (Zhang et al. 2024, eq. 3):
    -2/beta E_{D_F} log sigmoid(-beta log pi(y | x) / pi_N(y | x)).
    """
    ratio = log_ratio(policy, original, batches.forget)
    return -2 / beta * F.logsigmoid(-beta * ratio).mean()


def npo_retain(policy: Policy, original: Policy, batches: Batches) -> Tensor:
    """NPO + E_{D_R}[-log pi(y | x)] (Zhang et al. 2024)."""
    return npo(policy, original, batches) + finetune(policy, original, batches)


def simnpo(
    policy: Policy, original: Policy, batches: Batches, beta: float = 2.5, gamma: float = 0.0
) -> Tensor:
    """Simple NPO, without pi_N, with the retain loss (Fan et al. 2024):
    -2/beta E_{D_F} log sigmoid(-beta/|y| log pi(y | x) - gamma) + E_{D_R}[-log pi].
    """
    mean_nll = nll(policy, batches.forget) / batches.forget.mask.sum(dim=1)
    forget = -2 / beta * F.logsigmoid(beta * mean_nll - gamma).mean()
    return forget + finetune(policy, original, batches)


def middle_states(model: Policy, batch: Batch) -> Tensor:
    """Hidden states after half of the blocks, before each token of a response: (B, T, C)."""
    states = model.hidden(batch.idx, depth=0.5)
    return states.gather(1, batch.before[:, :, None].expand(-1, -1, states.size(-1)))


def rmu(
    policy: Policy, original: Policy, batches: Batches, c: float = 5.0, alpha: float = 10.0
) -> Tensor:
    """Representation misdirection (Li et al. 2024), h the hidden states of a middle layer:
    E_{D_F} |h - c |h_N| u|^2 + alpha E_{D_R} |h - h_N|^2, u one random direction, |h_N| the length
    that h has on D_F, so that c needs no tuning (adaptive RMU, Huu-Tien et al. 2024). Squares are
    means over channels.
    """
    with torch.no_grad():
        original_forget = middle_states(original, batches.forget)
        original_retain = middle_states(original, batches.retain)
    u = torch.rand(policy.width, generator=torch.Generator().manual_seed(0)).to(original_forget)
    u = u / u.norm()
    target = c * original_forget.norm(dim=-1, keepdim=True) * u
    away = (middle_states(policy, batches.forget) - target) ** 2
    near = (middle_states(policy, batches.retain) - original_retain) ** 2
    forget = masked_mean(away.mean(dim=-1), batches.forget.mask)
    retain = masked_mean(near.mean(dim=-1), batches.retain.mask)
    return forget + alpha * retain


def undial(policy: Policy, original: Policy, batches: Batches, beta: float = 10.0) -> Tensor:
    """Self-distillation on adjusted logits (Dong et al. 2024):
    E_{D_F} CE(softmax(z_N - beta 1_y), pi), z_N the original model's logits.
    """
    batch = batches.forget
    with torch.no_grad():
        logits = log_probs(original, batch)  # equal to z_N up to a constant of the row
        truth = F.one_hot(batch.response, logits.size(-1))
        target = (logits - beta * truth).softmax(dim=-1)
    ce = -(target * log_probs(policy, batch)).sum(dim=-1)
    return masked_mean(ce, batch.mask)


def passes_over(rows: list[Pair], size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Batches of rows, pass after pass without end, each pass shuffled anew."""
    while True:
        yield from shuffled_batches(rows, size, rng)


@dataclass(frozen=True)
class LossMethod:
    """A method that minimises a loss. It is called as every method is: method(policy, task, config)
    yields a dict of figures after each step, and makes `policy`, the original model, forget.

    Forget rows and retain rows are read in turn, each shuffled anew after a pass. passes: over D_F,
    or over D_R for a loss that reads it alone.
    """

    loss: Callable[[Policy, Policy, Batches], Tensor]
    lr: float
    passes: int
    over: str = "forget"  # or "retain"

    def __call__(self, policy: Policy, task: Task, config: LossConfig) -> Iterator[dict]:
        torch.manual_seed(config.seed)
        rng = random.Random(config.seed)
        original = policy.snapshot()
        lr = config.baseline_lr or self.lr
        optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0)
        forget = passes_over(task.references, config.batch_size, rng)
        retain = passes_over(task.retain, config.batch_size, rng)
        pass_length = math.ceil(len(task.references) / config.batch_size)
        n_steps = self.steps_of(task, config)
        for step in range(1, n_steps + 1):
            rows = next(forget)
            refused = [(x, rng.choice(task.refusals)) for x, _ in rows]
            batches = Batches(
                forget=pack_pairs(rows, task.eos_id, policy.device),
                refusal=pack_pairs(refused, task.eos_id, policy.device),
                retain=pack_pairs(next(retain), task.eos_id, policy.device),
                n_passes=(step - 1) // pass_length,
            )
            loss = self.loss(policy, original, batches)
            gradient_norm = descend(optimizer, loss)
            progress = {"step": step, "steps": n_steps}
            yield {**progress, "loss": loss.item(), "gradient_norm": gradient_norm}

    def steps_of(self, task: Task, config: LossConfig) -> int:
        """Optimizer steps: those that are given, or of so many passes."""
        rows = task.retain if self.over == "retain" else task.references
        passes = config.baseline_passes or self.passes
        return config.baseline_steps or passes * math.ceil(len(rows) / config.batch_size)


# Learning rates and passes are chosen by `python -m minidareu.paper search`.
METHODS = {
    "ga": LossMethod(ga, lr=1e-4, passes=8),
    "graddiff": LossMethod(graddiff, lr=1e-4, passes=8),
    "kl": LossMethod(kl_min, lr=1e-4, passes=8),
    "scrub": LossMethod(scrub, lr=1e-4, passes=16),
    "idkpo": LossMethod(idkpo, lr=1.6e-3, passes=64),
    "npo": LossMethod(npo, lr=1e-4, passes=8),
    "npo-retain": LossMethod(npo_retain, lr=1e-4, passes=8),
    "simnpo": LossMethod(simnpo, lr=1e-4, passes=8),
    "rmu": LossMethod(rmu, lr=4e-4, passes=8),
    "undial": LossMethod(undial, lr=4e-4, passes=1),
    "finetune": LossMethod(finetune, lr=1.6e-3, passes=4, over="retain"),
}
