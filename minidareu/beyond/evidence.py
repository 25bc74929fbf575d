"""What DareU+ rewards: how much evidence for the forget owners a response still adds."""

from torch import Tensor

FLOOR = 1e-4  # smaller probabilities of a classifier are noise


def evidence(attribution: Tensor) -> Tensor:
    """level_t = max(0, ln(max(a_t, 1e-4) / a_0)), in nats, a_0 the attribution of nothing.

    ln(a_t / a_0) is the pointwise mutual information of owners and text: 0 says no more of the
    owners than nothing does, ln(1 / a_0) all. In logs, because what a fact says of its owner is a
    factor, however many others share it; the KL that it is weighed against is in nats too.
    attribution: (B, T + 1), a_0 first -> the same shape.
    """
    read = attribution.clamp(min=FLOOR)
    return (read / read[:, :1]).log().clamp(min=0)


def token_returns(level: Tensor, log_ratio: Tensor, kl_coef: float) -> Tensor:
    """R_t = -(level_T - level_t) - beta sum_{s >= t} ln(pi / pi_N)(y[s]): what is still to come.

    level: (B, T + 1), constant after a response's end; log_ratio: (B, T), zero after it -> (B, T).
    """
    to_come = level[:, -1:] - level[:, :-1]
    kl_to_come = log_ratio.flip(1).cumsum(dim=1).flip(1)
    return -to_come - kl_coef * kl_to_come


def position_mean(returns: Tensor, mask: Tensor) -> Tensor:
    """The baseline: the mean over the responses that have a token there, (B, T) -> (T,)."""
    return (returns * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1)
