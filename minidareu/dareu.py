"""DareU: unlearning by reinforcement learning on data attribution.

    for each iteration:
        y ~ policy(. | x)    for forget prompts x, a group of responses each                             rollout
        a_t = p(forget owners | y_1..t)    by the attribution classifier                                 attribution
        r_t = -(a_t - a_{t-1}) - beta (log policy - log reference)_t                                     reward
        A = GAE(r, V)  (PPO)    or    R - mean R of the others in the group, R = sum_t r_t  (REINFORCE)  advantage
        for each epoch and minibatch:
            loss = clipped surrogate + c_v value loss + lambda KL(reference || policy) on retain records

The rewards telescope: with gamma = 1 they add up to -a_T, the attribution of the whole response, but each token is paid
for what it reveals (potential-based shaping, Ng et al. 1999: the optimal policies are those of -a_T at the last token).
"""

import copy
import random
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .attribution import owner_posterior
from .model import generate, pack


@dataclass
class Rollout:
    """Responses of the policy, beside their prompts. All but idx are (B, T - 1): column t is about token t + 1."""
    idx: torch.Tensor  # (B, T): prompt, response, end of text where the policy ended, padding
    mask: torch.Tensor  # 1 where token t + 1 was chosen by the policy
    logp: torch.Tensor  # log-probability of that choice when it was made
    values: torch.Tensor
    rewards: torch.Tensor
    advantages: torch.Tensor | None = None
    returns: torch.Tensor | None = None


def log_policy(model, idx, mask, temperature=1.0):
    """log softmax(logits / temperature) where mask is 1, row after row: (B, T), (B, T - 1) -> (N, V), hidden (N, C)."""
    hidden = model.hidden(idx)[:, :-1][mask.bool()]
    return F.log_softmax(hidden @ model.wte.weight.T / temperature, -1), hidden


def chosen(logp_all, idx, mask):
    """The rows of `log_policy` at the tokens that were chosen: (N, V) -> (B, T - 1), zero where mask is."""
    out = torch.zeros(mask.shape, device=mask.device)
    out[mask.bool()] = logp_all.gather(1, idx[:, 1:][mask.bool()][:, None])[:, 0]
    return out


def masked_mean(x, mask):
    """Mean of x where mask is 1."""
    return (x * mask).sum() / mask.sum()


def gae(rewards, values, mask, gamma, lam):
    """Generalized advantage estimation (Schulman et al. 2016): delta_t = r_t + gamma V_{t+1} - V_t, A_t = sum_k (gamma lam)^k delta_{t+k}.

    All (B, T), mask 1 on the response, 0 before and after it. Returns advantages and returns A + V, zero off the mask.
    """
    advantages, following = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.size(1))):
        next_value = values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.size(1) else 0
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantages[:, t] = following = (delta + gamma * lam * following) * mask[:, t]
    return advantages, (advantages + values) * mask


def leave_one_out(rewards):
    """RLOO (Kool et al. 2019; Ahmadian et al. 2024): reward minus the mean of the others in its group. (prompts, group)."""
    group = rewards.size(1)
    return (rewards - rewards.mean(1, keepdim=True)) * group / (group - 1)


def whiten(x, mask):
    """Shift and scale x to mean 0 and variance 1 over the mask."""
    mean = masked_mean(x, mask)
    return (x - mean) * (masked_mean((x - mean) ** 2, mask) + 1e-8).rsqrt() * mask


def ppo_loss(logp, old_logp, advantages, mask, clip):
    """PPO's clipped surrogate (Schulman et al. 2017, eq. 7), negated: the mean over mask of -min(rho A, clip(rho) A). All (B, T)."""
    ratio = (logp - old_logp).exp()
    return -masked_mean(torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages), mask)


def reinforce_loss(logp, advantages, mask):
    """REINFORCE (Williams 1992): -A log policy(y | x), summed over tokens, mean over responses. All (B, T)."""
    return -(logp * advantages * mask).sum(1).mean()


def value_loss(values, old_values, returns, mask, clip):
    """Squared error of V, of V held within `clip` of its old value if that is larger (PPO's implementation). All (B, T)."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.max((values - returns) ** 2, (clipped - returns) ** 2), mask)


def kl(logp, logq):
    """KL(p || q) of each row, from log-probabilities: (N, V), (N, V) -> (N,)."""
    return (logp.exp() * (logp - logq)).sum(-1)


@torch.no_grad()
def rollout(policy, value_head, reference, classifier, prompts, forget_owners, max_new_tokens, eos_id, beta, temperature):
    """Let the policy respond to prompts (lists of ids) and score what it says. Returns a Rollout and figures to log."""
    device = policy.wte.weight.device
    responses = generate(policy, prompts, max_new_tokens, temperature, eos_id)
    completions = [y + [eos_id] if len(y) < max_new_tokens else y for y in responses]
    idx, mask = pack(prompts, completions, device)
    logp_all, hidden = log_policy(policy, idx, mask, temperature)
    logp, ref_logp_all = chosen(logp_all, idx, mask), log_policy(reference, idx, mask, temperature)[0]
    values = torch.zeros_like(mask)
    values[mask.bool()] = value_head(hidden)[:, 0]

    a = owner_posterior(classifier, prompts, responses)[:, :, forget_owners].sum(-1)  # (B, longest response + 1)
    length = torch.tensor([len(y) for y in responses], device=device)
    t = torch.arange(a.size(1), device=device)
    a = torch.where(t <= length[:, None], a, a[torch.arange(len(a)), length][:, None])  # stays after the last token
    revealed = torch.cat([a.diff(dim=1), torch.zeros_like(a[:, :1])], 1)  # a_t - a_{t-1}; nothing by the end of text
    shaped = torch.zeros_like(mask)
    shaped[mask.bool()] = revealed[t < torch.tensor([len(y) for y in completions], device=device)[:, None]]
    rewards = -shaped - beta * (logp - chosen(ref_logp_all, idx, mask)) * mask
    stats = {"reward": rewards.sum(1).mean(), "attribution": a[:, -1].mean(), "kl": kl(logp_all, ref_logp_all).mean(),
             "entropy": -(logp_all.exp() * logp_all).sum(-1).mean(), "length": length.float().mean()}
    return Rollout(idx, mask, logp, values, rewards), stats


def unlearn(policy, classifier, forget_prompts, retain_pairs, forget_owners, max_new_tokens, eos_id, c):
    """Make `policy` forget, in place; a generator that yields the figures of each iteration, to log, as a dict.

    policy: the target model, whose frozen copy is the reference. forget_prompts: lists of ids; no forget response is
    ever seen. retain_pairs: (prompt, response) ids of the retain records. forget_owners: their indices. c: the Config.
    """
    device = policy.wte.weight.device
    torch.manual_seed(c.seed)
    rng = random.Random(c.seed)
    reference = copy.deepcopy(policy).requires_grad_(False)
    value_head = nn.Linear(policy.config.n_embd, 1).to(device)
    nn.init.zeros_(value_head.weight), nn.init.zeros_(value_head.bias)
    optimizer = torch.optim.AdamW([*policy.parameters(), *value_head.parameters()], lr=c.rl_lr, betas=(0.9, 0.95), weight_decay=0)
    beta = c.kl_coef
    for iteration in range(1, c.iterations + 1):
        began = time.perf_counter()
        prompts = rng.sample(forget_prompts, min(c.prompts, len(forget_prompts)))
        prompts = [x for x in prompts for _ in range(c.group_size)]
        ro, stats = rollout(policy, value_head, reference, classifier, prompts, forget_owners, max_new_tokens, eos_id, beta, c.temperature)
        if c.algorithm == "ppo":
            ro.advantages, ro.returns = gae(ro.rewards, ro.values, ro.mask, c.gamma, c.gae_lambda)
            ro.advantages = whiten(ro.advantages, ro.mask)
        else:
            R = leave_one_out(ro.rewards.sum(1).view(-1, c.group_size)).flatten()
            ro.advantages = R[:, None] * ro.mask
        sums = {"clip_fraction": 0.0, "distillation": 0.0, "value_loss": 0.0}
        updates = 0
        for _ in range(c.ppo_epochs if c.algorithm == "ppo" else 1):
            for rows in torch.randperm(len(prompts)).split(c.minibatch):
                mask, advantages = ro.mask[rows], ro.advantages[rows]
                T = int(mask.any(0).nonzero().max()) + 1
                mask, advantages, idx = mask[:, :T], advantages[:, :T], ro.idx[rows, :T + 1]
                logp_all, hidden = log_policy(policy, idx, mask, c.temperature)
                logp = chosen(logp_all, idx, mask)
                if c.algorithm == "ppo":
                    old_logp = ro.logp[rows, :T]
                    loss = ppo_loss(logp, old_logp, advantages, mask, c.clip)
                    values = torch.zeros_like(mask)
                    values[mask.bool()] = value_head(hidden)[:, 0]
                    v = value_loss(values, ro.values[rows, :T], ro.returns[rows, :T], mask, c.value_clip)
                    loss = loss + c.value_coef * v
                    sums["clip_fraction"] += masked_mean((((logp - old_logp).exp() - 1).abs() > c.clip).float(), mask).item()
                    sums["value_loss"] += v.item()
                else:
                    loss = reinforce_loss(logp, advantages, mask)
                pairs = rng.sample(retain_pairs, min(c.distill_batch, len(retain_pairs)))
                r_idx, r_mask = pack([x for x, _ in pairs], [y + [eos_id] for _, y in pairs], device)
                with torch.no_grad():
                    ref = log_policy(reference, r_idx, r_mask, 1.0)[0]
                distillation = kl(ref, log_policy(policy, r_idx, r_mask, 1.0)[0]).mean()
                loss = loss + c.distill_coef * distillation
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*policy.parameters(), *value_head.parameters()], 1.0)
                optimizer.step()
                sums["distillation"] += distillation.item()
                updates += 1
        yield {"iteration": iteration, "seconds": time.perf_counter() - began, **{k: v.item() for k, v in stats.items()},
               **{k: v / updates for k, v in sums.items()}, "beta": beta}
