"""DareU+: this project's own form of DareU, and plain REINFORCE.

    for each update
        b_d: for half of a forget batch the beginning of an answer of pi_N, cut anywhere; else none
        y_d ~ pi(. | q_d, b_d)                                                        rollout
        a_t = DA(owner of d, the first t tokens of b_d y_d)                           attribution
        level_t = max(0, logit(a_t) - logit(a_0))                                     evidence
        R_t = -(max_{s >= t} level_s - level_t) - beta sum_{s >= t} ln(pi / pi_N)(y[s])    return
        A_t = R_t - the batch's mean of R_t, whitened                                 advantage
        theta <- theta + eta grad (A_t ln pi(y[t] | c_t) - lambda_dis L_dis)

Departures from Algorithm 1 (measured: `python -m minidareu.beyond.terms`, the README beside this):

1. Responses are new for each update, and REINFORCE takes one step on them: no V, ratio or clip.
2. A token is paid for the evidence that is still to come, at its highest: a fact costs what led to
   it, even where the rest of the answer contradicts it. A constant attribution teaches nothing.
3. Evidence is in log odds, where each further fact adds its own factor, however sure one is.
4. Half of the responses begin as pi_N's would, and only what the policy adds is paid for. It soon
   says no such beginning by itself; an attack can put one into its mouth.
5. Forget and retain terms share a step, lambda_dis is 4, and the learning rate falls to zero.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rl
from ..data import Ids, Pair, Task, shuffled_batches
from ..dareu import Kept, distillation_loss, read_attribution
from ..model import Policy, chosen, descend, log_probs, pack, pack_pairs
from ..model import packed_log_probs, with_end

SOURCES = ["beyond/dareu_plus", "dareu", "data", "files", "model", "rl"]
FLOOR = 1e-4  # nearer to 0 or 1 a classifier's probabilities are noise
TEMPERATURE = 1.0  # of sampling


@dataclass
class PlusConfig:
    """DareU+, beside the batches and the reward of DareU."""

    seed: int = 0  # seed of every random choice
    forget_batch: int = 32  # forget prompts in a batch B_f
    retain_batch: int = 32  # retain rows in a batch B_r
    plus_updates: int = 128  # updates, each on a forget batch
    plus_beginnings: float = 0.5  # share of the responses that begin as pi_N's would
    plus_lr: float = 3e-3  # learning rate, falling to zero
    plus_kl_coef: float = 0.03  # beta, weight of the KL to pi_N
    plus_distill_coef: float = 4.0  # lambda_dis, weight of the distillation


def evidence(attribution: Tensor) -> Tensor:
    """level_t = max(0, logit(a_t) - logit(a_0)), in nats, a_0 the attribution of nothing.

    By how much the odds of the owner have grown: the weight of evidence (Good 1950). Each fact
    adds the log of its own factor; a_t is held within 1e-4 of 0 and 1.
    attribution: (B, T + 1), a_0 first -> the same shape.
    """
    log_odds = attribution.clamp(min=FLOOR, max=1 - FLOOR).logit()
    return (log_odds - log_odds[:, :1]).clamp(min=0)


def token_returns(level: Tensor, log_ratio: Tensor, kl_coef: float) -> Tensor:
    """R_t = -(max_{s >= t} level_s - level_t) - beta sum_{s >= t} ln(pi / pi_N)(y[s]).

    level: (B, T + 1), constant after a response's end; log_ratio: (B, T), zero after it -> (B, T).
    """
    highest = level.flip(1).cummax(dim=1).values.flip(1)  # from here on
    to_come = highest[:, :-1] - level[:, :-1]
    kl_to_come = log_ratio.flip(1).cumsum(dim=1).flip(1)
    return -to_come - kl_coef * kl_to_come


def position_mean(returns: Tensor, mask: Tensor) -> Tensor:
    """The baseline: the mean over the responses that have a token there, (B, T) -> (T,)."""
    return (returns * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1)


def sampled_answers(original: Policy, task: Task, config: PlusConfig) -> list[Ids]:
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


@dataclass
class Start:
    """A forget prompt with what its response begins with."""

    prompt: Ids  # q_d
    owner: int  # an index
    given: Ids  # b_d


@dataclass
class PlusLearner:
    """What is trained, and what it is held to."""

    policy: Policy  # pi
    original: Policy  # pi_N
    optimizer: torch.optim.Optimizer
    config: PlusConfig


def make_plus_learner(policy: Policy, config: PlusConfig) -> PlusLearner:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.plus_lr, weight_decay=0)
    return PlusLearner(policy, policy.snapshot(), optimizer, config)


def update(
    learner: PlusLearner, task: Task, starts: list[Start], rows: list[Pair]
) -> dict[str, float]:
    """The lines above, for a forget batch and rows of the retain set: figures for the log. Shapes
    (B, T): beginning, what was added, end of text."""
    policy, original, config = learner.policy, learner.original, learner.config
    retained = pack_pairs(rows, task.eos_id, policy.device)
    prompts, texts = [s.prompt for s in starts], [s.prompt + s.given for s in starts]
    added = policy.generate(texts, temperature=TEMPERATURE, **task.limits)
    ended = with_end(policy, texts, added, **task.limits)
    responses = [s.given + y for s, y in zip(starts, ended, strict=True)]
    batch = pack(prompts, responses, policy.device)
    n_given = torch.tensor([[len(s.given)] for s in starts], device=policy.device)
    # 1 on what the policy added.
    mask = batch.mask * (torch.arange(batch.mask.size(1), device=policy.device) >= n_given)
    logp_all = log_probs(policy, batch, TEMPERATURE)
    logp = chosen(logp_all, batch)
    with torch.no_grad():
        kept = Kept(retained, packed_log_probs(original, retained))
        original_logp_all = log_probs(original, batch, TEMPERATURE)
        log_ratio = (logp - chosen(original_logp_all, batch)) * mask
        queries = [(s.prompt, s.owner) for s in starts]
        whole = [s.given + y for s, y in zip(starts, added, strict=True)]
        attribution = read_attribution(task, queries, whole, T=mask.size(1))
        returns = token_returns(evidence(attribution), log_ratio, config.plus_kl_coef)
        advantages = rl.whiten(returns - position_mean(returns, mask), mask)
    distillation = distillation_loss(policy, kept)
    loss = rl.reinforce_loss(logp, advantages, mask)
    norm = descend(learner.optimizer, loss + config.plus_distill_coef * distillation)
    kl = rl.kl(logp_all.detach(), original_logp_all)
    return {
        "reward": returns[:, 0].mean().item(),
        "kl": rl.masked_mean(kl, mask).item(),
        "entropy": rl.masked_mean(rl.entropy(logp_all.detach()), mask).item(),
        "attribution": attribution[:, -1].mean().item(),
        "length": batch.mask.sum(dim=1).mean().item(),
        "clip_fraction": 0.0,
        "gradient_norm": norm,
        "distillation": distillation.item(),
    }


def unlearn(policy: Policy, task: Task, config: PlusConfig) -> Iterator[dict]:
    """Make `policy`, the original model, forget, in place. Yields a dict of figures an update."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    learner = make_plus_learner(policy, config)
    answers = sampled_answers(learner.original, task, config)
    answered = list(zip(task.forget, answers, strict=True))
    batches: list[list] = []
    for step in range(1, config.plus_updates + 1):
        rate = config.plus_lr * (1 - (step - 1) / config.plus_updates)
        learner.optimizer.param_groups[0]["lr"] = rate
        if not batches:  # all prompts once in random order, then again
            batches = shuffled_batches(answered, config.forget_batch, rng)
        starts = [
            Start(prompt, owner, beginning(answer, config.plus_beginnings, rng))
            for (prompt, owner), answer in batches.pop(0)
        ]
        rows = rng.sample(task.retain, min(config.retain_batch, len(task.retain)))
        figures = update(learner, task, starts, rows)
        yield {"step": step, "steps": config.plus_updates, **figures}
