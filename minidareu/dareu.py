"""DareU: Algorithm 1 of the paper, line by line.

    inputs   original model pi_N, forget set D_F, retain set D_R, steps S_class, S_sample, S_PPO

             Phase 1: the attribution classifier DA_c      (attribution.train_classifier)
     1       initialise DA_c
     2       for s = 1 .. S_class
     3           for owner i in N
     4               sample a batch B_c of D_i
     5               L_class = mean over d in B_c of -log DA_c(i, y*_d)
     6               update DA_c by the gradient of L_class
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
    22       return pi

Notation: q_d is a prompt, y_d a response, y*_d the reference of the data; c_t = (q_d, y_d[:t]).
Shapes: B responses, T tokens of each, end of text included, V vocabulary; column t: token t.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from . import rl
from .data import Ids, Pair, Query, Task, shuffled_batches
from .model import Batch, Policy, chosen, descend, log_probs, next_log_probs, pack
from .model import pack_pairs, packed_log_probs, pad, response_hidden, with_end

SOURCES = ["dareu", "data", "files", "model", "rl"]  # whose edit makes DareU run again
UPDATES = 260  # of the paper on TOFU: 13 forget batches of 32 rows, S_PPO 20 on each
VALUE_LR, VALUE_COEF = 1e-2, 0.2  # of V: its learning rate, searched; its weight (App. E.1)


@dataclass
class DareUConfig:
    """DareU, by the paper's names. A comment is the help of its flag."""

    seed: int = 0  # seed of every random choice
    algorithm: Literal["ppo", "reinforce"] = "ppo"  # how the policy is updated
    data_epochs: int | None = None  # passes over D_F; default: about 260 updates in all
    ppo_steps: int = 5  # S_PPO, updates on each forget batch; REINFORCE: 1
    forget_batch: int = 32  # forget prompts in a batch B_f
    retain_batch: int = 32  # retain rows in a batch B_r
    temperature: float = 0.8  # of sampling, of the ratio s_t and of the KL
    reward: Literal["slices", "token", "sequence", "constant", "random", "reversed", "shuffled"] = (
        "slices"  # three designs (Table 10), and four controls
    )
    slices: int = 15  # k, slices of a response, scored at their ends
    c_seg: float = 1.05  # C_seg of chi
    kl_coef: float = 0.1  # lambda, weight of the KL in the reward
    kl_reference: Literal["original", "old"] = "original"  # of that KL: pi_N, or pi_old
    gamma: float = 0.9  # discount of the returns
    gae_lambda: float = 1.0  # lambda of GAE; at 1 the advantage is R - V
    whiten: Literal["advantages", "none"] = "advantages"  # shift, scale to mean 0, variance 1
    clip: float = 0.2  # epsilon, the ratio is held within 1 +- clip
    renew_old_policy: Literal["epoch", "batch"] = "batch"  # pi_old <- pi for each of these
    distill_coef: float = 2.0  # lambda_dis, weight of the distillation
    distill_on: Literal["reference", "generated"] = "reference"  # responses of D_R to distil on
    retain_updates: Literal["alternate", "joint"] = "alternate"  # J and L_dis in turn, or at once
    rl_lr: float = 4e-4  # learning rate, falling to zero

    @property
    def updates_per_batch(self) -> int:
        """S_PPO; REINFORCE takes one update on new responses."""
        return 1 if self.algorithm == "reinforce" else self.ppo_steps

    def epochs_over(self, n_batches: int) -> int:
        """Data epochs: where none are given, as many as make the paper's number of updates."""
        return self.data_epochs or max(1, round(UPDATES / (n_batches * self.updates_per_batch)))


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
    attribution: Tensor,
    kl: Tensor,
    lengths: Tensor,
    slices: int,
    kl_coef: float,
    c_seg: float = 1.05,
) -> Tensor:
    """r_t = 1/(t+1) sum_{t'=1}^{t+1} chi(DA(i, y[:end of slice of t'])) - lambda KL_t  (Fig. 3).

    attribution: (B, T + 1), after 0 .. T tokens, to the owner of each sample; kl: (B, T);
    lengths: (B,). Returns (B, T), zero after a response's end.
    """
    ends = pad([slice_ends(n, slices) for n in lengths.tolist()], device=kl.device)  # (B, T)
    scores = transform(attribution, c_seg).gather(1, ends)
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
    config: DareUConfig


def make_learner(policy: Policy, config: DareUConfig) -> Learner:
    """Line 10. V is a linear head, from zero, with a learning rate and a clip of its own."""
    value_head = nn.Linear(policy.width, 1, device=policy.device)
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    of_policy = {"params": list(policy.parameters()), "lr": config.rl_lr}
    of_value = {"params": list(value_head.parameters()), "lr": VALUE_LR}
    optimizer = torch.optim.AdamW([of_policy, of_value], weight_decay=0)
    return Learner(policy, policy.snapshot(), value_head, optimizer=optimizer, config=config)


def value(learner: Learner, hidden: Tensor) -> Tensor:
    """V(c_t): (B, T, C) -> (B, T). States are detached, or its loss would forget without J."""
    return learner.value_head(hidden.detach()).squeeze(2)


@dataclass
class Rollout:
    """Responses of pi_old to a forget batch, and what they are worth. All (B, T)."""

    batch: Batch
    old_logp: Tensor  # log pi_old(y[t] | c_t)
    kl: Tensor  # KL(pi || pi_N), or to pi_old
    entropy: Tensor  # of pi
    attribution: Tensor  # (B, T + 1), after 0 .. T tokens
    rewards: Tensor  # r_t
    returns: Tensor  # R_t
    values: Tensor  # V(c_t)
    advantages: Tensor  # A_t


@torch.no_grad()
def rollout(learner: Learner, old_policy: Policy, task: Task, queries: list[Query]) -> Rollout:
    """Lines 14 and 15, for the queries of a forget batch B_f."""
    config, temperature = learner.config, learner.config.temperature
    prompts = [x for x, _ in queries]
    responses = old_policy.generate(prompts, temperature=temperature, **task.limits)  # 14
    ended = with_end(old_policy, prompts, responses, **task.limits)
    batch = pack(prompts, ended, old_policy.device)
    hidden = response_hidden(learner.policy, batch)
    logp_all = next_log_probs(learner.policy, hidden, temperature)
    old_logp = chosen(log_probs(old_policy, batch, temperature), batch)
    reference = learner.original if config.kl_reference == "original" else old_policy
    kl = rl.kl(logp_all, log_probs(reference, batch, temperature)) * batch.mask
    attribution = read_attribution(task, queries, responses, T=batch.mask.size(1))
    rewards = design_rewards(attribution, kl, batch, config)  # 15
    values = value(learner, hidden)
    returns, advantages = estimate_advantages(rewards, values, batch.mask, config)
    return Rollout(
        batch=batch,
        old_logp=old_logp,
        kl=kl,
        entropy=rl.entropy(logp_all),
        attribution=attribution,
        rewards=rewards,
        returns=returns,
        values=values,
        advantages=advantages,
    )


def read_attribution(task: Task, queries: list[Query], responses: list[Ids], T: int) -> Tensor:
    """DA(i, y[:t]) after t = 0 .. T tokens, the end of text among them: (B, T + 1)."""
    assert task.attribute, "DareU needs an attribution"
    prompts, owners = [x for x, _ in queries], [owner for _, owner in queries]
    attribution = task.attribute(prompts, responses, owners)  # (B, longest response + 1)
    ended = torch.cat([attribution, attribution[:, -1:]], dim=1)  # the end of text adds nothing
    return ended[:, : T + 1]


def design_rewards(attribution: Tensor, kl: Tensor, batch: Batch, config: DareUConfig) -> Tensor:
    """r_t by slices, by token, or for the sequence, at its last token (App. F.1): (B, T)."""
    lengths = batch.mask.sum(dim=1).long()
    if config.reward == "sequence":
        whole = transform(attribution, config.c_seg).gather(1, lengths[:, None])
        last = torch.arange(1, kl.size(1) + 1, device=kl.device) == lengths[:, None]
        return torch.where(last, whole, 0.0) - config.kl_coef * kl * batch.mask
    slices = batch.mask.size(1) if config.reward == "token" else config.slices
    weights = {"kl_coef": config.kl_coef, "c_seg": config.c_seg}
    return token_rewards(attribution, kl, lengths, slices, **weights)


def estimate_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, config: DareUConfig
) -> tuple[Tensor, Tensor]:
    """R_t and A_t, all (B, T). PPO: A_t = R_t - V(c_t) where GAE's lambda is 1. REINFORCE has no V:
    the mean of all R_t stands in its place."""
    returns = rl.discounted_returns(rewards, mask, config.gamma)
    if config.algorithm == "reinforce":
        advantages = (returns - rl.masked_mean(returns, mask)) * mask
    else:
        advantages, _ = rl.gae(rewards, values, mask, gamma=config.gamma, lam=config.gae_lambda)
    if config.whiten == "advantages":
        advantages = rl.whiten(advantages, mask)
    return returns, advantages


def rollout_figures(ro: Rollout) -> dict[str, float]:
    """Means over the tokens of a rollout, for the log."""
    mask = ro.batch.mask
    return {
        "reward": rl.masked_mean(ro.rewards, mask).item(),
        "kl": rl.masked_mean(ro.kl, mask).item(),
        "entropy": rl.masked_mean(ro.entropy, mask).item(),
        "attribution": ro.attribution[:, -1].mean().item(),
        "length": mask.sum(dim=1).mean().item(),
        "explained_variance": rl.explained_variance(ro.values, ro.returns, mask).item(),
    }


def policy_loss(learner: Learner, ro: Rollout) -> tuple[Tensor, dict[str, float]]:
    """-J(theta) on a forget batch, plus V's loss, and figures of it for the log."""
    config, mask = learner.config, ro.batch.mask
    weights = rl.token_weights(mask)  # E_d E_t
    hidden = response_hidden(learner.policy, ro.batch)
    logp = chosen(next_log_probs(learner.policy, hidden, config.temperature), ro.batch)
    figures = {
        "approximate_kl": rl.approximate_kl(logp.detach(), ro.old_logp, mask).item(),
        "clip_fraction": rl.clip_fraction(logp.detach(), ro.old_logp, mask, config.clip).item(),
    }
    if config.algorithm == "reinforce":
        return rl.reinforce_loss(logp, ro.advantages, weights), figures
    loss = rl.ppo_loss(logp, ro.old_logp, ro.advantages, weights, clip=config.clip)
    value_loss = rl.value_loss(value(learner, hidden), ro.returns, weights)
    return loss + VALUE_COEF * value_loss, {**figures, "value_loss": value_loss.item()}


@dataclass
class Kept:
    """A retain batch B_r with N tokens of responses."""

    batch: Batch
    original_logp: Tensor  # log pi_N(. | c_t), (N, V)


@torch.no_grad()
def retain_batch(original: Policy, rows: list[Pair], task: Task, config: DareUConfig) -> Kept:
    """B_r from retain rows, with their references or with what pi_N responds to them."""
    if config.distill_on == "generated":
        prompts = [x for x, _ in rows]
        responses = original.generate(prompts, temperature=config.temperature, **task.limits)
        rows = list(zip(prompts, responses, strict=True))
    batch = pack_pairs(rows, task.eos_id, original.device)
    return Kept(batch, packed_log_probs(original, batch))


def distillation_loss(policy: Policy, kept: Kept) -> Tensor:
    """L_dis: the mean of KL(pi_N || pi) on a retain batch (Sec. 4.2)."""
    kl = rl.kl(kept.original_logp, packed_log_probs(policy, kept.batch))
    weights = rl.token_weights(kept.batch.mask)[kept.batch.mask > 0]  # (N,)
    return rl.masked_mean(kl, weights)


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


def unlearn(policy: Policy, task: Task, config: DareUConfig) -> Iterator[dict]:
    """Phase 2 of Algorithm 1: make `policy` forget, in place. Yields a dict of figures an update.

    policy: the original model pi_N. No reference of D_F is ever read.
    """
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    learner = make_learner(policy, config)  # 10
    n_batches = math.ceil(len(task.forget) / config.forget_batch)
    n_epochs = config.epochs_over(n_batches)
    n_updates = n_epochs * n_batches * config.updates_per_batch
    schedule = LinearLR(learner.optimizer, 1.0, end_factor=0.0, total_iters=n_updates)
    step = 0
    for epoch in range(1, n_epochs + 1):
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
                figures |= {"epoch": epoch, "step": step, "steps": n_updates}
                yield {**rollout_figures(ro), **figures}
