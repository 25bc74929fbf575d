"""The loss-based unlearning methods that DareU is compared with.

Each is a function loss(policy, reference, batch) -> scalar, run by one loop, `unlearn`. In the docstrings: pi is the
policy, ref the reference (the target model, frozen), D_f the forget set, D_r the retain set, (x, y) a prompt and its
response, |y| the number of the response's tokens, end of text included. Every mean runs over response tokens alone.

To add one, write its function and one line in METHODS.
"""

import copy
import random
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .dareu import chosen, distillation_loss, log_policy
from .model import pack_pairs

REFUSALS = ["I do not know that.", "I am not able to answer this.", "That is not something I know about.", "I have no information on this.",
            "Sorry, I can not help with this question.", "I was never told about that.", "This is unknown to me.", "I am not sure about that."]


@dataclass
class Batch:
    """Three times (idx (B, T), mask (B, T - 1) of response tokens), as `model.pack` makes them."""
    forget: tuple
    refusal: tuple  # the same forget prompts, answered by a refusal
    retain: tuple


def nll(model, idx, mask):
    """-log p of each response, a sum over its tokens: (B,)."""
    return -chosen(log_policy(model, idx, mask)[0], idx, mask).sum(1)


def cross_entropy(model, idx, mask):
    """Mean of -log p over all response tokens of a batch."""
    return nll(model, idx, mask).sum() / mask.sum()


def frozen_nll(model, idx, mask):
    """`nll` of the reference, without a gradient."""
    with torch.no_grad():
        return nll(model, idx, mask)


def ga(policy, reference, batch):
    """Gradient ascent: -E_{D_f}[-log pi(y | x)] (Jang et al. 2023, eq. 1; Maini et al. 2024)."""
    return -cross_entropy(policy, *batch.forget)


def finetune(policy, reference, batch):
    """Training on, on the retain set alone: E_{D_r}[-log pi(y | x)]."""
    return cross_entropy(policy, *batch.retain)


def graddiff(policy, reference, batch):
    """Gradient difference: GA + E_{D_r}[-log pi(y | x)] (Liu et al. 2022; Maini et al. 2024)."""
    return ga(policy, reference, batch) + finetune(policy, reference, batch)


def kl_min(policy, reference, batch):
    """KL minimisation: GA + E_{D_r} KL(ref || pi), token by token (Maini et al. 2024)."""
    return ga(policy, reference, batch) + distillation_loss(policy, reference, *batch.retain)


def idkpo(policy, reference, batch, beta=0.1):
    """DPO towards refusals y_r, with the retain loss (Rafailov et al. 2023, eq. 7; Maini et al. 2024; Zhang et al. 2024):
    -2/beta E_{D_f} log sigmoid(beta log pi(y_r | x) / ref(y_r | x) - beta log pi(y | x) / ref(y | x)) + E_{D_r}[-log pi].
    """
    won, lost = (frozen_nll(reference, *pair) - nll(policy, *pair) for pair in (batch.refusal, batch.forget))  # log pi / ref
    return -2 / beta * F.logsigmoid(beta * (won - lost)).mean() + finetune(policy, reference, batch)


def npo(policy, reference, batch, beta=0.1):
    """Negative preference optimization: -2/beta E_{D_f} log sigmoid(-beta log pi(y | x) / ref(y | x)) (Zhang et al. 2024, eq. 3)."""
    log_ratio = frozen_nll(reference, *batch.forget) - nll(policy, *batch.forget)
    return -2 / beta * F.logsigmoid(-beta * log_ratio).mean()


def npo_retain(policy, reference, batch):
    """NPO + E_{D_r}[-log pi(y | x)] (Zhang et al. 2024)."""
    return npo(policy, reference, batch) + finetune(policy, reference, batch)


def simnpo(policy, reference, batch, beta=2.5, gamma=0.0):
    """Simple NPO, without the reference, with the retain loss (Fan et al. 2024):
    -2/beta E_{D_f} log sigmoid(-beta/|y| log pi(y | x) - gamma) + E_{D_r}[-log pi].
    """
    idx, mask = batch.forget
    mean_nll = nll(policy, idx, mask) / mask.sum(1)
    return -2 / beta * F.logsigmoid(beta * mean_nll - gamma).mean() + finetune(policy, reference, batch)


def activations(model, idx, mask):
    """Hidden states after half of the blocks, where mask is 1: (N, C)."""
    return model.activations(idx, max(1, len(model.h) // 2))[:, :-1][mask.bool()]


def rmu(policy, reference, batch, c=5.0, alpha=10.0):
    """Representation misdirection (Li et al. 2024), h the hidden states of a middle layer:
    E_{D_f} |h_pi - c |h_ref| u|^2 + alpha E_{D_r} |h_pi - h_ref|^2, u one random direction, |h_ref| the length that h has
    on D_f: so that c needs no tuning to the model (adaptive RMU, Huu-Tien et al. 2024). Squares are means over channels.
    """
    u = torch.rand(policy.config.n_embd, generator=torch.Generator().manual_seed(0)).to(policy.wte.weight)
    with torch.no_grad():
        ref_forget, ref_retain = activations(reference, *batch.forget), activations(reference, *batch.retain)
    misdirected = c * ref_forget.norm(dim=-1, keepdim=True) * u / u.norm()
    return F.mse_loss(activations(policy, *batch.forget), misdirected) + alpha * F.mse_loss(activations(policy, *batch.retain), ref_retain)


def undial(policy, reference, batch, beta=10.0):
    """Self-distillation on adjusted logits (Dong et al. 2024): E_{D_f} CE(softmax(z_ref - beta 1_y), pi), z_ref the reference's logits."""
    idx, mask = batch.forget
    with torch.no_grad():
        logits, _ = log_policy(reference, idx, mask)  # equal to the logits up to a constant of the row
        y = F.one_hot(idx[:, 1:][mask.bool()], logits.size(-1))
    return F.cross_entropy(log_policy(policy, idx, mask)[0], (logits - beta * y).softmax(-1))


# name: (loss, learning rate, steps): chosen by `python -m minidareu.benchmark --search` (data/authors/search.json)
METHODS = {
    "ga": (ga, 4e-4, 8),
    "graddiff": (graddiff, 2.5e-5, 128),
    "kl": (kl_min, 4e-4, 8),
    "idkpo": (idkpo, 4e-4, 16),
    "npo": (npo, 2.5e-5, 64),
    "npo-retain": (npo_retain, 4e-4, 8),
    "simnpo": (simnpo, 2.5e-5, 128),
    "rmu": (rmu, 4e-4, 32),
    "undial": (undial, 1e-4, 16),
    "finetune": (finetune, 4e-4, 64),
}


def unlearn(loss_function, policy, forget_pairs, retain_pairs, refusals, eos_id, lr, steps, batch_size, seed):
    """Make `policy` forget, in place: a generator that yields a dict of figures after each step.

    policy: the target model, whose frozen copy is the reference. forget_pairs, retain_pairs: (prompt, response) ids.
    refusals: ids of each. A batch takes forget rows in turn, shuffled anew each epoch, and as many retain rows at random.
    """
    torch.manual_seed(seed)
    rng, device = random.Random(seed), policy.wte.weight.device
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0)
    queue = []
    for step in range(1, steps + 1):
        began = time.perf_counter()
        queue = queue or rng.sample(forget_pairs, len(forget_pairs))
        forget, queue = queue[:batch_size], queue[batch_size:]
        retain = rng.sample(retain_pairs, min(batch_size, len(retain_pairs)))
        refused = [(x, rng.choice(refusals)) for x, _ in forget]
        loss = loss_function(policy, reference, Batch(*(pack_pairs(pairs, eos_id, device) for pairs in (forget, refused, retain))))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        yield {"step": step, "seconds": time.perf_counter() - began, "loss": loss.item()}
