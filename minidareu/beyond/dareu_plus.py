"""DareU+: this project's own form of DareU, and plain REINFORCE.

    for each update
        y_d ~ pi(. | q_d)     for a batch of forget prompts                           rollout
        a_t = p(forget owners | what y_d[:t] adds to q_d), t = 0 .. T             attribution
        R_d = -(a_T - a_0) / (1 - a_0) - beta sum_t log(pi / pi_N)(y_d[t])             reward
        A_d = R_d - mean of R over the batch, whitened                              advantage
        theta <- theta + eta grad (A_d log pi(y_d | q_d) - lambda_dis L_dis)

a_0 is the attribution of nothing, the forget owners' share of the data. Departures from
Algorithm 1, in order, with medians over seeds 0-4 (`python -m minidareu.beyond.ladder`; README.md
beside this file has the tables):

1. Responses are new for each update, and REINFORCE takes one step on them: no V to fit, no ratio,
   no clip. By itself this runs past the retrained model: ToW .919 -> .486.
2. The reward is the change of attribution to the forget owners, held to pi_N by a KL. A response is
   not penalised for what the classifier believes before it reads a word, so a reward that says
   nothing teaches nothing: credit -.02 -> 1. Without the KL, perplexity 1.60 times the retrained
   model's, with it 1.19.
3. The attribution is of what a response *adds* to its prompt (`added.py`). The prompt names its
   owner; paid for the whole response, the policy says another name and keeps facts. Names kept
   0 -> 1, fact recall .423 -> .077, ToW .856 -> .978.
4. Forget and retain terms share a step, and lambda_dis is 4 (with the paper's 2: ToW .981). The
   learning rate is annealed to zero, so that the policy settles; at three times the updates ToW
   is .988.
"""

import random

import torch

from .. import rl
from ..attribution import control
from ..data import shuffled_batches
from ..dareu import distillation_loss, retain_batch
from ..model import GPT, chosen, frozen, generate, log_probs, pack, packed_log_probs, with_end


def response_rewards(attribution, log_ratio, kl_coef):
    """R_d = -(a_T - a_0) / (1 - a_0) - beta sum_t log(pi / pi_N)(y_d[t]): (B,).

    attribution: (B, T + 1), constant after a response's end; log_ratio: (B, T), zero after it.
    """
    prior = attribution[:, 0]
    added = (attribution[:, -1] - prior) / (1 - prior)
    return -added - kl_coef * log_ratio.sum(dim=1)


def prompt_batches(forget, batch_size, rng):
    """Batches of forget prompts without end: all once in random order, then again."""
    while True:
        yield from shuffled_batches(forget, batch_size, rng)


def unlearn(policy: GPT, attribute, forget, retain, limits, c):
    """Make `policy` forget, in place: a generator that yields a dict of figures after each update.

    attribute(prompts, responses) -> (B, longest + 1), as `added.forget_attribution` gives it.
    The other arguments are those of `dareu.unlearn`.
    """
    torch.manual_seed(c.seed)
    rng, device = random.Random(c.seed), policy.wte.weight.device
    original = frozen(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=c.plus_lr, weight_decay=0)
    batches = prompt_batches(forget, c.forget_batch, rng)
    for step in range(1, c.plus_updates + 1):
        optimizer.param_groups[0]["lr"] = c.plus_lr * (1 - (step - 1) / c.plus_updates)
        prompts = [x for x, _ in next(batches)]
        responses = generate(policy, prompts, temperature=c.plus_temperature, **limits)
        batch = pack(prompts, with_end(policy, prompts, responses, **limits), device)
        kept = retain_batch(original, retain, c.plus_retain_batch, limits, rng=rng, c=c)
        logp_all = log_probs(policy, batch, c.plus_temperature)
        logp = chosen(logp_all, batch)
        with torch.no_grad():
            original_logp_all = log_probs(original, batch, c.plus_temperature)
            attribution = attribute(prompts, responses)
            rewards = response_rewards(
                control(attribution, c.reward),
                log_ratio=logp - chosen(original_logp_all, batch),
                kl_coef=c.plus_kl_coef,
            )
            advantages = (rewards - rewards.mean())[:, None] * batch.mask  # the same for all tokens
            advantages = rl.whiten(advantages, batch.mask)
            kept_logp = packed_log_probs(original, kept)
        distillation = distillation_loss(policy, kept_logp, kept)
        loss = rl.reinforce_loss(logp, advantages, batch.mask)
        rl.descend(optimizer, loss + c.plus_distill_coef * distillation)
        kl = rl.kl(logp_all.detach(), original_logp_all)
        yield {
            "step": step,
            "reward": rewards.mean().item(),
            "attribution": attribution[:, -1].mean().item(),
            "kl": rl.masked_mean(kl, batch.mask).item(),
            "entropy": rl.masked_mean(rl.entropy(logp_all.detach()), batch.mask).item(),
            "clip_fraction": 0.0,
            "length": batch.mask.sum(dim=1).mean().item(),
            "distillation": distillation.item(),
        }
