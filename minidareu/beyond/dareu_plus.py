"""DareU+: this project's own form of DareU, and plain REINFORCE.

    for each update
        b_d: for half of a forget batch the beginning of an answer of pi_N, cut anywhere; else none
        y_d ~ pi(. | q_d, b_d)                                                        rollout
        a_t = p(forget owners | the first t tokens of b_d y_d)                        attribution
        level_t = max(0, ln(max(a_t, 1e-4) / a_0))                                    evidence
        R_t = -(level_T - level_t) - beta sum_{s >= t} ln(pi / pi_N)(y[s])            return
        A_t = R_t - the batch's mean of R_t, whitened                                 advantage
        theta <- theta + eta grad (A_t ln pi(y[t] | c_t) - lambda_dis L_dis)

Departures from Algorithm 1 (tables: `python -m minidareu.beyond.ladder`, the README beside this):

1. Responses are new for each update, and REINFORCE takes one step on them: no V, ratio or clip.
2. A token is paid for the change of attribution that is still to come, and held to pi_N by a KL: a
   reward that says nothing teaches nothing.
3. Attribution counts in nats, so that facts that many owners share are not passed over.
4. Half of the responses begin as pi_N's would, and only what the policy adds is paid for. It soon
   says no such beginning by itself; an attack can put one into its mouth.
5. Forget and retain terms share a step, lambda_dis is 4, and the learning rate falls to zero.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rl
from ..data import Ids, Pair, Task, shuffled_batches
from ..dareu import DareUSettings, distillation_loss, retain_batch
from ..model import Batch, Policy, chosen, descend, log_probs, pack, with_end

SOURCES = ["beyond/dareu_plus", "dareu", "data", "files", "model", "rl"]
FLOOR = 1e-4  # smaller probabilities of a classifier are noise
TEMPERATURE = 1.0  # of sampling


@dataclass
class PlusSettings(DareUSettings):
    """DareU+, beside the batches and the reward of DareU."""

    plus_updates: int = 128  # updates, each on a forget batch
    plus_beginnings: float = 0.5  # share of the responses that begin as pi_N's would
    plus_lr: float = 1.5e-3  # learning rate, falling to zero
    plus_kl_coef: float = 0.03  # beta, weight of the KL to pi_N
    plus_distill_coef: float = 4.0  # lambda_dis, weight of the distillation


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


def sampled_answers(original: Policy, task: Task, config: PlusSettings) -> list[Ids]:
    """An answer of pi_N to each forget prompt, a batch at a time."""
    prompts = [x for x, _ in task.forget]
    answers: list[Ids] = []
    for i in range(0, len(prompts), config.forget_batch):
        part = prompts[i : i + config.forget_batch]
        answers += original.generate(part, temperature=TEMPERATURE, **task.limits)
    return answers


def beginning(answer: Ids, share: float, rng: random.Random) -> Ids:
    """b_d: with probability `share` the answer up to a random token, else nothing."""
    return answer[: rng.randrange(len(answer) + 1)] if rng.random() < share else []


def read_attribution(
    attribute: Callable, begun: list[Pair], added: list[Ids], length: int
) -> Tensor:
    """a_t after t = 0, 1, ... tokens of b_d and what was added: (B, length + 1).

    It stays as it is at the end of a response.
    """
    prompts = [x for x, _ in begun]
    whole = [b + y for (_, b), y in zip(begun, added, strict=True)]
    attribution = attribute(prompts, whole)
    at = torch.arange(length + 1, device=attribution.device).clamp(max=attribution.size(1) - 1)
    return attribution[:, at]


@dataclass
class PlusLearner:
    """What is trained, and what it is held to."""

    policy: Policy  # pi
    original: Policy  # pi_N
    optimizer: torch.optim.Optimizer
    config: PlusSettings


def make_plus_learner(policy: Policy, config: PlusSettings) -> PlusLearner:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.plus_lr, weight_decay=0)
    return PlusLearner(policy, policy.snapshot(), optimizer, config)


@dataclass
class Update:
    """What one update was made of. Shapes (B, T): beginning, what was added, end of text."""

    batch: Batch
    mask: Tensor  # 1 on what the policy added
    logp: Tensor  # log pi(y[t] | c_t) before it
    attribution: Tensor  # a_t, (B, T + 1)
    returns: Tensor  # R_t
    advantages: Tensor  # A_t
    figures: dict[str, float]  # for the log


def update(learner: PlusLearner, task: Task, begun: list[Pair], rows: list[Pair]) -> Update:
    """The lines above. begun: forget prompts with their beginnings; rows: of the retain set."""
    policy, original, config = learner.policy, learner.original, learner.config
    kept = retain_batch(original, rows, task, config)
    prompts, starts = [x for x, _ in begun], [x + b for x, b in begun]
    added = policy.generate(starts, temperature=TEMPERATURE, **task.limits)
    ended = with_end(policy, starts, added, **task.limits)
    batch = pack(prompts, [b + y for (_, b), y in zip(begun, ended, strict=True)], policy.device)
    n_given = torch.tensor([[len(b)] for _, b in begun], device=policy.device)
    mask = batch.mask * (torch.arange(batch.mask.size(1), device=policy.device) >= n_given)
    logp_all = log_probs(policy, batch, TEMPERATURE)
    logp = chosen(logp_all, batch)
    with torch.no_grad():
        original_logp_all = log_probs(original, batch, TEMPERATURE)
        log_ratio = (logp - chosen(original_logp_all, batch)) * mask
        assert task.attribute_forget, "DareU+ needs an attribution"
        attribution = read_attribution(task.attribute_forget, begun, added, mask.size(1))
        returns = token_returns(evidence(attribution), log_ratio, config.plus_kl_coef)
        advantages = rl.whiten(returns - position_mean(returns, mask), mask)
    distillation = distillation_loss(policy, kept)
    loss = rl.reinforce_loss(logp, advantages, mask)
    norm = descend(learner.optimizer, loss + config.plus_distill_coef * distillation)
    kl = rl.kl(logp_all.detach(), original_logp_all)
    figures = {
        "reward": returns[:, 0].mean().item(),
        "kl": rl.masked_mean(kl, mask).item(),
        "entropy": rl.masked_mean(rl.entropy(logp_all.detach()), mask).item(),
        "attribution": attribution[:, -1].mean().item(),
        "length": batch.mask.sum(dim=1).mean().item(),
        "clip_fraction": 0.0,
        "gradient_norm": norm,
        "distillation": distillation.item(),
    }
    return Update(
        batch=batch,
        mask=mask,
        logp=logp.detach(),
        attribution=attribution,
        returns=returns,
        advantages=advantages,
        figures=figures,
    )


def unlearn(policy: Policy, task: Task, config: PlusSettings) -> Iterator[dict]:
    """Make `policy`, the original model, forget, in place. Yields a dict of figures an update."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    learner = make_plus_learner(policy, config)
    answers = sampled_answers(learner.original, task, config)
    pairs = [(x, y) for (x, _), y in zip(task.forget, answers, strict=True)]
    batches: list[list[Pair]] = []
    for step in range(1, config.plus_updates + 1):
        rate = config.plus_lr * (1 - (step - 1) / config.plus_updates)
        learner.optimizer.param_groups[0]["lr"] = rate
        if not batches:  # all prompts once in random order, then again
            batches = shuffled_batches(pairs, config.forget_batch, rng)
        begun = [(x, beginning(y, config.plus_beginnings, rng)) for x, y in batches.pop(0)]
        rows = rng.sample(task.retain, min(config.retain_batch, len(task.retain)))
        figures = update(learner, task, begun, rows).figures
        yield {"step": step, "steps": config.plus_updates, **figures}
