"""DareU: Algorithm 1 of the paper, line by line.

    inputs   original model pi_N, forget set D_F, retain set D_R, steps S_class, S_sample, S_PPO

             Phase 1: the attribution classifier DA_c      (attribution.train_classifier)
     1       initialise DA_c
     2       for s = 1 .. S_class
     3           for owner i in N
     4               sample a batch B_c of D_i
     5               L_class = mean over d in B_c of -log DA_c(i, y*_d)
     6               update DA_c by the gradient of L_class
     7, 8    end, end
     9       freeze DA_c

             Phase 2: reinforcement learning               (unlearn)
    10       pi <- pi_N; initialise the value function V
    11       pi_old <- pi                                  (again at the start of each data epoch)
    12       for s = 1 .. S_sample
    13           sample B_f of D_F and B_r of D_R
    14           y_d ~ pi_old(. | q_d) for d in B_f
    15           rewards r_{t,d} and advantages A_{t,d} by DA_c
    16           for s = 1 .. S_PPO
    17               J(theta) on B_f
    18               L_dis(theta) on B_r
    19               theta <- theta + eta grad (J - lambda_dis L_dis)
    20, 21   end, end
    22       return pi

Notation: q_d is a prompt, y_d a response, y*_d the reference of the data; c_t = (q_d, y_d[:t]).
Shapes: B responses, T tokens of a response (its end of text counts), V vocabulary. Column t of a
(B, T) tensor is about token t.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from . import rl
from .data import Pair, Query, Task, shuffled_batches
from .model import Batch, Policy, chosen, descend, log_probs, next_log_probs, pack
from .model import pack_pairs, packed_log_probs, pad, response_hidden, with_end

Config = Any  # the settings, by the paper's names: the flags of train.py (run/flags.py)


def transform(b: Tensor, c_seg: float = 1.05, eps: float = 1e-4) -> Tensor:
    """chi(b) = clip(ln(1 - clip(b, eps, 1 - eps)) / C_seg, -1, 0) (Sec. 4.2.1, Fig. 5).

    [0, 1] -> [-1, 0], any shape; it is -1 from b = 1 - exp(-C_seg) on, .650 by default.
    """
    b = b.clamp(eps, 1 - eps)
    return (torch.log(1 - b) / c_seg).clamp(-1, 0)


def slice_ends(length: int, slices: int) -> list[int]:
    """For tokens t' = 1 .. T, where the slice of each ends: min(T, ceil(t' / kappa) kappa). A slice
    has kappa = ceil(T / k) tokens, k = `slices` (Sec. 4.2.1, App. F.3)."""
    kappa = -(-length // slices)
    return [min(length, -(-t // kappa) * kappa) for t in range(1, length + 1)]


def token_rewards(
    attribution: Tensor, kl: Tensor, lengths: Tensor, slices: int, kl_coef: float, **chi: float
) -> Tensor:
    """r_t = 1/(t+1) sum_{t'=1}^{t+1} chi(DA(i, y[:end of slice of t'])) - lambda KL_t  (Fig. 3).

    attribution: (B, T + 1), after 0 .. T tokens, to the owner of each sample; kl: (B, T);
    lengths: (B,); chi: keywords of `transform`. Returns (B, T), zero after a response's end.
    """
    ends = pad([slice_ends(n, slices) for n in lengths.tolist()], device=kl.device)  # (B, T)
    scores = transform(attribution, **chi).gather(1, ends)
    count = torch.arange(1, kl.size(1) + 1, device=kl.device)  # t + 1
    prefix_mean = scores.cumsum(dim=1) / count
    mask = count <= lengths[:, None]
    return (prefix_mean - kl_coef * kl) * mask


@dataclass
class Learner:
    """What Algorithm 1 trains, and what it holds it to."""

    policy: Policy  # pi
    original: Policy  # pi_N
    value_head: nn.Linear  # V, on the policy's hidden states
    optimizer: torch.optim.Optimizer
    config: Config


def make_learner(policy: Policy, config: Config) -> Learner:
    """Line 10. V is a linear head, from zero, with a learning rate and a clip of its own."""
    value_head = nn.Linear(policy.width, 1, device=policy.device)
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    of_policy = {"params": list(policy.parameters()), "lr": config.rl_lr}
    of_value = {"params": list(value_head.parameters()), "lr": config.value_lr}
    optimizer = torch.optim.AdamW([of_policy, of_value], weight_decay=0)
    return Learner(policy, policy.snapshot(), value_head, optimizer=optimizer, config=config)


def value(learner: Learner, hidden: Tensor) -> Tensor:
    """V(c_t) from the policy's hidden states: (B, T, C) -> (B, T).

    They are detached: V's loss trains the head alone. Through the policy it forgets a part of the
    facts without J (`beyond/README.md`), so that J would not be what is measured.
    """
    return learner.value_head(hidden.detach()).squeeze(2)


@dataclass
class Rollout:
    """Responses of pi_old to a forget batch, and what they are worth. All (B, T)."""

    batch: Batch
    kl: Tensor  # KL(pi || pi_N), or to pi_old
    attribution: Tensor  # (B, T + 1), after 0 .. T tokens
    rewards: Tensor  # r_t
    returns: Tensor  # R_t
    values: Tensor  # V(c_t)
    advantages: Tensor  # A_t
    old_logp: Tensor  # log pi_old(y[t] | c_t)
    figures: dict[str, float]  # means, for the log


@torch.no_grad()
def rollout(learner: Learner, old_policy: Policy, task: Task, queries: list[Query]) -> Rollout:
    """Lines 14 and 15, for the queries of a forget batch B_f. With lambda 1, A_t = R_t - V(c_t)."""
    config = learner.config
    prompts, owners = [x for x, _ in queries], [owner for _, owner in queries]
    responses = old_policy.generate(prompts, temperature=config.temperature, **task.limits)  # 14
    ended = with_end(old_policy, prompts, responses, **task.limits)
    batch = pack(prompts, ended, old_policy.device)
    hidden = response_hidden(learner.policy, batch)
    logp_all = next_log_probs(learner.policy, hidden, config.temperature_of_ratio)
    old_logp_all = log_probs(old_policy, batch, config.temperature_of_ratio)
    reference_logp_all = old_logp_all
    if config.kl_reference == "original":
        reference_logp_all = log_probs(learner.original, batch, config.temperature_of_ratio)
    kl = rl.kl(logp_all, reference_logp_all) * batch.mask
    assert task.attribute, "DareU needs an attribution"
    attribution = task.attribute(prompts, responses, owners)  # (B, longest response + 1)
    at_end = attribution[:, -1:]  # the end of text adds nothing
    attribution = torch.cat([attribution, at_end], dim=1)[:, : batch.mask.size(1) + 1]  # (B, T + 1)
    rewards = design_rewards(attribution, kl, batch, config)  # 15
    if config.whiten == "rewards":
        rewards = rl.whiten(rewards, batch.mask)
    returns = rl.discounted_returns(rewards, batch.mask, config.gamma)
    if config.algorithm == "reinforce":
        values = rl.masked_mean(returns, batch.mask) * batch.mask  # a constant in the place of V
        advantages = returns - values
    else:
        values = value(learner, hidden)
        advantages, _ = rl.gae(rewards, values, batch.mask, config.gamma, lam=config.gae_lambda)
    if config.whiten == "advantages":
        advantages = rl.whiten(advantages, batch.mask)
    of_tokens = {"reward": rewards, "kl": kl, "entropy": rl.entropy(logp_all)}
    figures = {name: rl.masked_mean(x, batch.mask).item() for name, x in of_tokens.items()}
    figures["attribution"] = attribution[:, -1].mean().item()
    figures["length"] = batch.mask.sum(dim=1).mean().item()
    figures["explained_variance"] = rl.explained_variance(values, returns, batch.mask).item()
    parts = {"values": values, "advantages": advantages, "old_logp": chosen(old_logp_all, batch)}
    return Rollout(batch, kl, attribution, rewards, returns=returns, figures=figures, **parts)


def design_rewards(attribution: Tensor, kl: Tensor, batch: Batch, config: Config) -> Tensor:
    """r_t by slices, by token, or for the sequence, at its last token (App. F.1): (B, T)."""
    lengths, chi = batch.mask.sum(dim=1).long(), {"c_seg": config.c_seg, "eps": config.chi_eps}
    if config.reward == "sequence":
        whole = transform(attribution, **chi).gather(1, lengths[:, None])
        last = torch.arange(1, kl.size(1) + 1, device=kl.device) == lengths[:, None]
        return torch.where(last, whole, 0.0) - config.kl_coef * kl * batch.mask
    slices = batch.mask.size(1) if config.reward == "token" else config.slices
    return token_rewards(attribution, kl, lengths, slices, kl_coef=config.kl_coef, **chi)


def policy_loss(learner: Learner, ro: Rollout) -> tuple[Tensor, dict[str, float]]:
    """-J(theta) on a forget batch, plus V's loss, and figures of it for the log."""
    config, mask = learner.config, ro.batch.mask
    weights = rl.token_weights(mask, config.mean)
    hidden = response_hidden(learner.policy, ro.batch)
    logp = chosen(next_log_probs(learner.policy, hidden, config.temperature_of_ratio), ro.batch)
    moved = rl.approximate_kl(logp.detach(), ro.old_logp, mask).item()
    figures = {"approximate_kl": moved, "clip_fraction": 0.0}
    if config.algorithm == "reinforce":
        return rl.reinforce_loss(logp, ro.advantages, weights), figures
    loss = rl.ppo_loss(logp, ro.old_logp, ro.advantages, weights, clip=config.clip)
    value_loss = rl.value_loss(value(learner, hidden), ro.returns, weights)
    clipped = rl.clip_fraction(logp.detach(), ro.old_logp, mask, config.clip).item()
    figures |= {"clip_fraction": clipped, "value_loss": value_loss.item()}
    return loss + config.value_coef * value_loss, figures


@dataclass
class Kept:
    """A retain batch B_r with N tokens of responses."""

    batch: Batch
    original_logp: Tensor  # log pi_N(. | c_t), (N, V)
    weights: Tensor  # (N,)


@torch.no_grad()
def retain_batch(original: Policy, rows: list[Pair], task: Task, config: Config) -> Kept:
    """B_r from retain rows, with their references or with what pi_N responds to them."""
    if config.distill_on == "generated":
        prompts = [x for x, _ in rows]
        responses = original.generate(prompts, temperature=config.temperature, **task.limits)
        rows = list(zip(prompts, responses, strict=True))
    batch = pack_pairs(rows, task.eos_id, original.device)
    weights = rl.token_weights(batch.mask, config.mean)[batch.mask > 0]
    return Kept(batch, packed_log_probs(original, batch), weights)


def distillation_loss(policy: Policy, kept: Kept) -> Tensor:
    """L_dis: the mean of KL(pi_N || pi) on a retain batch (Sec. 4.2)."""
    kl = rl.kl(kept.original_logp, packed_log_probs(policy, kept.batch))
    return rl.masked_mean(kl, kept.weights)


def update(learner: Learner, ro: Rollout, kept: Kept) -> dict[str, float]:
    """Lines 17 to 19, in turn (Sec. 4.2) or in one step. Returns figures for the log."""
    optimizer, weight = learner.optimizer, learner.config.distill_coef  # lambda_dis
    loss, figures = policy_loss(learner, ro)  # 17
    if learner.config.retain_updates == "alternate":
        figures["gradient_norm"] = descend(optimizer, loss)  # 19, its first half
        distillation = distillation_loss(learner.policy, kept)  # 18
        descend(optimizer, weight * distillation)  # 19, its second
    else:
        distillation = distillation_loss(learner.policy, kept)  # 18
        figures["gradient_norm"] = descend(optimizer, loss + weight * distillation)  # 19
    return {**figures, "distillation": distillation.item()}


def unlearn(policy: Policy, task: Task, config: Config) -> Iterator[dict]:
    """Phase 2 of Algorithm 1: make `policy` forget, in place. Yields a dict of figures an update.

    policy: the original model pi_N. No reference of D_F is ever read.
    """
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    learner = make_learner(policy, config)  # 10
    n_updates = config.dareu_updates(len(task.forget))
    last = 0.0 if config.rl_schedule == "linear" else 1.0  # share of the rate at their end
    schedule = LinearLR(learner.optimizer, 1.0, last, total_iters=n_updates)
    step = 0
    for epoch in range(1, config.epochs_over(len(task.forget)) + 1):
        old_policy = policy.snapshot()  # 11
        for queries in shuffled_batches(task.forget, config.forget_batch, rng):  # 12, 13
            if config.renew_old_policy == "batch" or config.algorithm == "reinforce":
                old_policy = policy.snapshot()
            rows = rng.sample(task.retain, min(config.retain_batch, len(task.retain)))  # 13
            kept = retain_batch(learner.original, rows, task, config)
            ro = rollout(learner, old_policy, task, queries)
            for _ in range(config.updates_per_batch):  # 16
                figures = update(learner, ro, kept)
                schedule.step()
                step += 1
                yield {"epoch": epoch, "step": step, **ro.figures, **figures}
