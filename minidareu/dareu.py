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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import rl
from .attribution import control
from .data import shuffled_batches
from .model import GPT, Batch, chosen, frozen, generate, log_probs, next_log_probs, pack
from .model import pack_pairs, packed_log_probs, pad, response_hidden, with_end


def transform(b: Tensor, c_seg: float = 1.05, eps: float = 1e-4) -> Tensor:
    """chi(b) = clip(ln(1 - clip(b, eps, 1 - eps)) / C_seg, -1, 0) (Sec. 4.2.1, Fig. 5).

    Maps an attribution in [0, 1] to a score in [-1, 0]; any shape. It is -1 from
    b = 1 - exp(-C_seg) on, .650 by default.
    """
    b = b.clamp(eps, 1 - eps)
    return (torch.log(1 - b) / c_seg).clamp(-1, 0)


def slice_ends(length: int, slices: int) -> list[int]:
    """For tokens t' = 1 .. T, where the slice of each ends: min(T, ceil(t' / kappa) kappa).

    kappa = ceil(T / k) tokens make a slice, k = `slices` (Sec. 4.2.1, App. F.3).
    """
    kappa = -(-length // slices)
    return [min(length, -(-t // kappa) * kappa) for t in range(1, length + 1)]


def token_rewards(
    attribution: Tensor,
    kl: Tensor,
    lengths: Tensor,
    slices: int,
    kl_coef: float,
    c_seg: float = 1.05,
    eps: float = 1e-4,
) -> Tensor:
    """r_t = 1/(t+1) sum_{t'=1}^{t+1} chi(DA(i, y[:end of slice of t'])) - lambda KL_t  (Fig. 3).

    attribution: (B, T + 1), after 0 .. T tokens, to the owner of each sample; kl: (B, T);
    lengths: (B,). Returns (B, T), zero after a response's end.
    """
    ends = pad([slice_ends(n, slices) for n in lengths.tolist()], device=kl.device)  # (B, T)
    scores = transform(attribution, c_seg, eps).gather(1, ends)
    count = torch.arange(1, kl.size(1) + 1, device=kl.device)  # t + 1
    prefix_mean = scores.cumsum(dim=1) / count
    mask = count <= lengths[:, None]
    return (prefix_mean - kl_coef * kl) * mask


def sequence_rewards(
    attribution: Tensor,
    kl: Tensor,
    lengths: Tensor,
    kl_coef: float,
    c_seg: float = 1.05,
    eps: float = 1e-4,
) -> Tensor:
    """The design without slices (App. F.1): chi(DA(i, y)) of the whole response, at its last token.

    Arguments and result as in `token_rewards`.
    """
    last = lengths[:, None] - 1
    whole = transform(attribution, c_seg, eps).gather(1, last + 1)
    t = torch.arange(kl.size(1), device=kl.device)
    return torch.where(t == last, whole, 0.0) - kl_coef * kl * (t <= last)


@dataclass
class Rollout:
    """Responses of pi_old to a forget batch, and what they are worth. All (B, T)."""

    batch: Batch
    old_logp: Tensor  # log pi_old(y[t] | c_t)
    advantages: Tensor  # A_t
    returns: Tensor  # R_t
    figures: dict[str, float]  # means, for the log


@torch.no_grad()
def rollout(policy, old_policy, value_head, attribute, rows, limits, c) -> Rollout:
    """Lines 14 and 15. rows: (prompt ids, owner index) of the forget batch; c: Config."""
    device = old_policy.wte.weight.device
    prompts, owners = [x for x, _ in rows], [owner for _, owner in rows]
    responses = generate(old_policy, prompts, temperature=c.temperature, **limits)  # 14
    batch = pack(prompts, with_end(old_policy, prompts, responses, **limits), device)
    hidden = response_hidden(policy, batch)
    logp_all = next_log_probs(policy, hidden, c.temperature)
    old_logp_all = log_probs(old_policy, batch, c.temperature)
    kl = rl.kl(logp_all, old_logp_all) * batch.mask  # KL(pi || pi_old), 0 in the first batch

    attribution = attribute(prompts, responses, owners)  # (B, longest response + 1)
    n_tokens = torch.arange(batch.mask.size(1) + 1, device=device)
    attribution = attribution[:, n_tokens.clamp(max=attribution.size(1) - 1)]  # (B, T + 1)
    rewards = design_rewards(control(attribution, c.reward), kl, batch, c)  # 15: r_t
    returns = rl.discounted_returns(rewards, batch.mask, c.gamma)  # R_t
    if c.algorithm == "reinforce":
        advantages = (returns - rl.masked_mean(returns, batch.mask)) * batch.mask
    else:
        fit_value_head(value_head, hidden, returns, batch.mask, steps=c.value_steps)
        values = value_head(hidden).squeeze(2)  # V(c_t)
        # At lambda 1 this is A_t = R_t - V(c_t).
        advantages, _ = rl.gae(rewards, values, batch.mask, c.gamma, lam=c.gae_lambda)
    if c.whiten:
        advantages = rl.whiten(advantages, batch.mask)
    figures = {
        "reward": rl.masked_mean(rewards, batch.mask).item(),
        "attribution": attribution[:, -1].mean().item(),
        "kl": rl.masked_mean(kl, batch.mask).item(),
        "entropy": rl.masked_mean(rl.entropy(logp_all), batch.mask).item(),
        "length": batch.mask.sum(dim=1).mean().item(),
    }
    return Rollout(batch, chosen(old_logp_all, batch), advantages, returns, figures=figures)


def design_rewards(attribution, kl, batch, c) -> Tensor:
    """r_t by the design that --reward names: by slices, by token, or for the sequence. (B, T)."""
    lengths = batch.mask.sum(dim=1).long()
    settings = {"kl_coef": c.kl_coef, "c_seg": c.c_seg, "eps": c.chi_eps}
    if c.reward == "sequence":
        return sequence_rewards(attribution, kl, lengths, **settings)
    slices = batch.mask.size(1) if c.reward == "token" else c.slices
    return token_rewards(attribution, kl, lengths, slices, **settings)


@torch.enable_grad()
def fit_value_head(value_head, hidden, returns, mask, steps):
    """Fit V to returns before the policy moves; the policy stays as it is. 0 steps: not at all."""
    optimizer = torch.optim.Adam(value_head.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = rl.value_loss(value_head(hidden).squeeze(2), returns, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def policy_loss(policy, value_head, ro: Rollout, c) -> tuple[Tensor, float]:
    """-J(theta) + c_v L_V on a forget batch, and the share of its ratios that are clipped."""
    mask = ro.batch.mask
    hidden = response_hidden(policy, ro.batch)
    logp_all = next_log_probs(policy, hidden, c.temperature)
    logp = chosen(logp_all, ro.batch)
    if c.algorithm == "reinforce":
        return rl.reinforce_loss(logp, ro.advantages, mask), 0.0
    values = value_head(hidden).squeeze(2)
    loss = rl.ppo_loss(logp, ro.old_logp, ro.advantages, mask, clip=c.clip)
    clipped = rl.clip_fraction(logp.detach(), ro.old_logp, mask, c.clip).item()
    return loss + c.value_coef * rl.value_loss(values, ro.returns, mask), clipped


def distillation_loss(policy: GPT, original_logp: Tensor, batch: Batch) -> Tensor:
    """L_dis: the mean over tokens of KL(pi_N || pi) on a retain batch (Sec. 4.2).

    original_logp: log pi_N(. | c_t) at the N tokens of the responses, (N, V).
    """
    return rl.kl(original_logp, packed_log_probs(policy, batch)).mean()


def updates_per_batch(c) -> int:
    """S_PPO; REINFORCE takes one update a batch."""
    return 1 if c.algorithm == "reinforce" else c.ppo_steps


def count_updates(n_forget: int, c) -> int:
    """How many updates `unlearn` makes with so many forget rows."""
    batches = -(-n_forget * c.group_size // c.forget_batch)
    return c.data_epochs * batches * updates_per_batch(c)


def retain_batch(original: GPT, retain: list, size: int, limits: dict, rng, c) -> Batch:
    """B_r: retain rows with their references, or with what pi_N responds to them."""
    rows = rng.sample(retain, min(size, len(retain)))
    if c.distill_on == "generated":
        prompts = [x for x, _ in rows]
        responses = generate(original, prompts, temperature=c.temperature, **limits)
        rows = list(zip(prompts, responses, strict=True))
    return pack_pairs(rows, limits["eos_id"], original.wte.weight.device)


def unlearn(
    policy: GPT, attribute: Callable, forget: list, retain: list, limits: dict, c
) -> Iterator[dict]:
    """Phase 2 of Algorithm 1: make `policy` forget, in place.

    policy: the original model pi_N. attribute(prompts, responses, owners) -> (B, longest + 1), as
    `attribution.prefix_attribution` gives it. forget: (prompt ids, owner index) of the forget rows;
    their references are never read. retain: (prompt, reference) ids of the retain rows.
    limits: max_new_tokens and eos_id of a response. c: Config.

    A generator: yields a dict of figures after each update.
    """
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)
    original = frozen(policy)  # pi_N
    value_head = nn.Linear(policy.config.n_embd, 1, device=policy.wte.weight.device)  # 10
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    parameters = [*policy.parameters(), *value_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=c.rl_lr, weight_decay=0)
    step = 0
    for epoch in range(1, c.data_epochs + 1):
        old_policy = frozen(policy)  # 11
        for rows in shuffled_batches(forget * c.group_size, c.forget_batch, rng):  # 12, 13
            if c.renew_old_policy == "batch":
                old_policy = frozen(policy)
            kept = retain_batch(original, retain, c.retain_batch, limits, rng=rng, c=c)  # 13
            with torch.no_grad():
                original_logp = packed_log_probs(original, kept)
            ro = rollout(policy, old_policy, value_head, attribute, rows=rows, limits=limits, c=c)
            for _ in range(updates_per_batch(c)):  # 16
                loss, clipped = policy_loss(policy, value_head, ro, c)  # 17
                if c.retain_updates == "alternate":
                    rl.descend(optimizer, loss)
                    loss = torch.zeros(())
                distillation = distillation_loss(policy, original_logp, kept)  # 18
                rl.descend(optimizer, loss + c.distill_coef * distillation)  # 19
                step += 1
                losses = {"clip_fraction": clipped, "distillation": distillation.item()}
                yield {"epoch": epoch, "step": step, **ro.figures, **losses}
