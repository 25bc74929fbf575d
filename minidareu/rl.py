"""Policy gradients from the textbook. Nothing here knows about unlearning.

Shapes: B responses, T tokens. mask is 1 on a response and 0 after its end; means run over the mask.
"""

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x where mask is 1: (B, T) -> scalar."""
    return (x * mask).sum() / mask.sum()


def token_weights(mask: Tensor) -> Tensor:
    """What a token counts in a mean over the tokens of a response, then over responses, E_d E_t:
    (B, T) -> (B, T). They can take a mask's place in every mean here."""
    return mask / mask.sum(dim=1, keepdim=True).clamp(min=1)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale x to mean 0 and variance 1 over the mask; zero off it."""
    centred = x - masked_mean(x, mask)
    variance = masked_mean(centred**2, mask)
    return centred * (variance + 1e-8).rsqrt() * mask


def discounted_returns(rewards: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """R_t = sum_{j >= 0} gamma^j r_{t+j} over the rest of each response: (B, T) -> (B, T)."""
    t = torch.arange(rewards.size(1), device=rewards.device)
    exponent = (t[:, None] - t).clamp(min=0)  # row k, column t: k - t
    weights = (gamma**exponent).tril()  # gamma^(k - t) for k >= t, 0 before
    return (rewards * mask) @ weights.to(rewards.dtype) * mask


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016): advantages and returns, (B, T).

    delta_t = r_t + gamma V_{t+1} - V_t,   A_t = sum_k (gamma lam)^k delta_{t+k},   R_t = A_t + V_t.
    With lam = 1, R_t is the discounted return and A_t = R_t - V_t.
    """
    values = values * mask
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * next_values - values
    advantages = discounted_returns(deltas, mask, gamma * lam)
    return advantages, advantages + values


def ppo_loss(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> Tensor:
    """-J: the mean of -min(s_t A_t, clip(s_t, 1 - eps, 1 + eps) A_t) (Schulman et al. 2017, eq. 7).

    s_t = pi(y[t] | c_t) / pi_old(y[t] | c_t); eps is `clip`. All (B, T) -> scalar.
    """
    ratio = (logp - old_logp).exp()
    surrogate = ratio * advantages
    clipped_surrogate = ratio.clamp(1 - clip, 1 + clip) * advantages
    return -masked_mean(torch.min(surrogate, clipped_surrogate), mask)


def clip_fraction(logp: Tensor, old_logp: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Share of the tokens whose ratio lies outside of 1 - clip to 1 + clip."""
    ratio = (logp - old_logp).exp()
    return masked_mean(((ratio - 1).abs() > clip).float(), mask)


def approximate_kl(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """KL(pi_old || pi) from pi_old's tokens: mean of s_t - 1 - log s_t (Schulman 2020)."""
    log_ratio = logp - old_logp
    return masked_mean(log_ratio.exp() - 1 - log_ratio, mask)


def reinforce_loss(logp: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Mean of -A_t log pi(y[t] | c_t) (Williams 1992). All (B, T) -> scalar."""
    return -masked_mean(logp * advantages, mask)


def value_loss(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Mean of (V(c_t) - R_t)^2 / 2. All (B, T) -> scalar."""
    return 0.5 * masked_mean((values - returns) ** 2, mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(R - V) / Var(R): 1 where V foretells the returns, 0 where a constant would do."""
    error, returns = returns - values, returns - masked_mean(returns, mask)
    error = error - masked_mean(error, mask)
    return 1 - masked_mean(error**2, mask) / masked_mean(returns**2, mask).clamp(min=1e-8)


def kl(logp: Tensor, logq: Tensor) -> Tensor:
    """KL(p || q) over the last dimension, from log-probabilities: (..., V), (..., V) -> (...)."""
    return (logp.exp() * (logp - logq)).sum(dim=-1)


def entropy(logp: Tensor) -> Tensor:
    """-sum_v p_v log p_v over the last dimension: (..., V) -> (...)."""
    return -(logp.exp() * logp).sum(dim=-1)
