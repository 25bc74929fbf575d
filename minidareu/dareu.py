"""DareU: unlearning by reinforcement learning on data attribution.

    for each iteration:
        y ~ policy(. | x)    for forget prompts x, a group of responses each, one by the reference       rollout
        a_t = p(forget owners | y_1..t)    by the attribution classifier                                 attribution
        r_t = -(a_t - a_{t-1}) / (1 - a_0) - beta (log policy - log reference)_t                         reward
        A = GAE(r, V)  (PPO)    or    R - mean R of the others in the group, R = sum_t r_t  (REINFORCE)  advantage
        for each epoch and minibatch:
            loss = clipped surrogate + c_v value loss + lambda KL(reference || policy) on retain records

The rewards telescope: with gamma = 1 they add up to -(a_T - a_0) / (1 - a_0), the attribution of the whole response,
corrected for chance: a_0 is what it is before the first token, the forget owners' share of the data. But each token is paid
for what it reveals (potential-based shaping, Ng et al. 1999: the optimal policies are those of the sum at the last token).
"""

import copy
import random
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .model import generate, pack, pack_pairs, with_end


@dataclass
class Rollout:
    """Responses of the policy. All but `idx` are (B, T - 1): column t is about the choice of token t + 1."""
    idx: torch.Tensor  # (B, T): prompt, response, end of text where the policy ended, padding
    mask: torch.Tensor  # 1 where token t + 1 was chosen by the policy, 0 for prompt and padding
    logp: torch.Tensor  # log-probability of the choice when it was made
    values: torch.Tensor
    rewards: torch.Tensor
    advantages: torch.Tensor | None = None
    returns: torch.Tensor | None = None


def log_policy(model, idx, mask, temperature=1.0):
    """log softmax(logits / temperature) where mask is 1, row after row: (B, T), (B, T - 1) -> (N, V); hidden states (N, C)."""
    hidden = model.hidden(idx)[:, :-1][mask.bool()]
    return F.log_softmax(hidden @ model.wte.weight.T / temperature, -1), hidden


def place(x, mask):
    """Numbers for the ones of a mask, row after row -> a tensor of the mask's shape, zero elsewhere."""
    return torch.zeros_like(mask).masked_scatter(mask.bool(), x)


def chosen(logp_all, idx, mask):
    """The rows of `log_policy` at the tokens that follow: (N, V) -> (B, T - 1), zero where mask is."""
    return place(logp_all.gather(1, idx[:, 1:][mask.bool()][:, None]), mask)


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
    """REINFORCE (Williams 1992): the mean over mask of -A log policy; its gradient is the policy gradient. All (B, T)."""
    return -masked_mean(logp * advantages, mask)


def value_loss(values, old_values, returns, mask, clip):
    """Squared error of V, of V held within `clip` of its old value if that is larger (PPO's implementation). All (B, T)."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.max((values - returns) ** 2, (clipped - returns) ** 2), mask)


def kl(logp, logq):
    """KL(p || q) of each row, from log-probabilities: (N, V), (N, V) -> (N,)."""
    return (logp.exp() * (logp - logq)).sum(-1)


def leave_out(prompts, dropout, rng):
    """Lists of ids without `dropout` of them, by chance; whole where none would be left."""
    return [[token for token in x if rng.random() >= dropout] or x for x in prompts]


@torch.no_grad()
def rollout(policy, value_head, reference, attribute, prompts, asked, n_reference, max_new_tokens, eos_id, beta, temperature):
    """Let the policy respond and score what it says. Returns a Rollout, and figures of the policy's own responses to log.

    attribute(prompts, responses) -> a_t: (B, longest + 1), as `attribution.forget_posterior` gives it. prompts: lists of ids; asked: what
    of them the models read. The reference gives the first `n_reference` responses, which
    count as if the policy had given them: PPO's ratio begins at 1 for every token.
    """
    device = policy.wte.weight.device
    responses = generate(policy, asked[n_reference:], max_new_tokens, temperature, eos_id)
    if n_reference:
        responses = generate(reference, asked[:n_reference], max_new_tokens, temperature, eos_id) + responses
    idx, mask = pack(asked, with_end(policy, asked, responses, max_new_tokens, eos_id), device)
    logp_all, hidden = log_policy(policy, idx, mask, temperature)
    ref_logp_all, _ = log_policy(reference, idx, mask, temperature)
    logp, ref_logp = chosen(logp_all, idx, mask), chosen(ref_logp_all, idx, mask)

    a = attribute(prompts, responses)  # (B, 1 + longest): a_0, a_1, ...
    length = torch.tensor([len(y) for y in responses], device=device)[:, None]
    t = torch.arange(1, a.size(1) + 1, device=device)
    revealed = torch.where(t <= length, F.pad(a.diff(dim=1), (0, 1)), 0) / (1 - a[:, :1])  # the end of text reveals nothing
    revealed = place(revealed[t <= mask.sum(1, keepdim=True)], mask)
    rewards = -revealed - beta * (logp - ref_logp)

    own, own_tokens = slice(n_reference, None), slice(int(mask[:n_reference].sum()), None)
    stats = {"reward": rewards[own].sum(1).mean(), "attribution": a.gather(1, length)[own].mean(),
             "kl": kl(logp_all, ref_logp_all)[own_tokens].mean(), "entropy": -(logp_all.exp() * logp_all).sum(-1)[own_tokens].mean(),
             "length": length[own].float().mean()}
    return Rollout(idx, mask, logp, place(value_head(hidden), mask), rewards), {name: x.item() for name, x in stats.items()}


def policy_loss(policy, value_head, ro, rows, c):
    """What one minibatch (`rows` of the Rollout) asks of the policy: the loss, and the share of its ratios that are clipped."""
    idx, mask, advantages = ro.idx[rows], ro.mask[rows], ro.advantages[rows]
    logp_all, hidden = log_policy(policy, idx, mask, c.temperature)
    logp = chosen(logp_all, idx, mask)
    if c.algorithm == "reinforce":
        return reinforce_loss(logp, advantages, mask), 0.0
    v = value_loss(place(value_head(hidden), mask), ro.values[rows], ro.returns[rows], mask, c.value_clip)
    clipped = masked_mean((((logp - ro.logp[rows]).exp() - 1).abs() > c.clip).float(), mask).item()
    return ppo_loss(logp, ro.logp[rows], advantages, mask, c.clip) + c.value_coef * v, clipped


def distillation_loss(policy, reference, idx, mask):
    """KL(reference || policy) on packed records: the mean over response tokens and end of text."""
    with torch.no_grad():
        ref_logp_all, _ = log_policy(reference, idx, mask)
    return kl(ref_logp_all, log_policy(policy, idx, mask)[0]).mean()


def random_state(device, state=None):
    """The state of PyTorch's generators, of the CPU's and the device's own; set to `state` where it is given."""
    generators = [torch.random, *([getattr(torch, device.type)] if device.type != "cpu" else [])]
    if state:
        for generator, one in zip(generators, state):
            generator.set_rng_state(one)
    return [generator.get_rng_state() for generator in generators]


def unlearn(policy, attribute, forget_prompts, retain_pairs, max_new_tokens, eos_id, c, state):
    """Make `policy` forget, in place: a generator that yields a dict of figures after each iteration.

    policy: the target model, whose frozen copy is the reference. attribute: as `rollout` takes it. forget_prompts: lists of ids; no
    forget response is ever seen. retain_pairs: (prompt, response) ids of the retain records. c: the Config.
    state: a dict, filled anew after each iteration with all that the next depends on; one that is not empty is gone on from.
    """
    torch.manual_seed(c.seed)
    rng, device = random.Random(c.seed), policy.wte.weight.device
    reference = copy.deepcopy(policy).requires_grad_(False)
    value_head = nn.Linear(policy.config.n_embd, 1, device=device)
    nn.init.zeros_(value_head.weight)
    parameters = [*policy.parameters(), *value_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=c.rl_lr, betas=(0.9, 0.95), weight_decay=0)
    beta, step, done = c.kl_coef, 0, 0
    learned = {"policy": policy, "value_head": value_head, "optimizer": optimizer}
    if state:
        for name, part in learned.items():
            part.load_state_dict(state[name])
        beta, step, done = state["beta"], state["step"], state["iteration"]
        rng.setstate(state["rng"])
        random_state(device, state["torch_rng"])
    for iteration in range(done + 1, c.iterations + 1):
        began = time.perf_counter()
        optimizer.param_groups[0]["lr"] = c.rl_lr * (1 - (iteration - 1) / c.iterations)  # annealed to zero, so that the policy settles
        n_prompts = min(c.prompts, len(forget_prompts))
        prompts = rng.sample(forget_prompts, n_prompts) * c.group_size
        asked = leave_out(prompts, c.prompt_dropout, rng)
        ro, stats = rollout(policy, value_head, reference, attribute, prompts, asked, n_prompts * c.reference_responses,
                            max_new_tokens, eos_id, beta, c.temperature)
        if c.algorithm == "ppo":
            advantages, ro.returns = gae(ro.rewards, ro.values, ro.mask, c.gamma, c.gae_lambda)
        else:
            advantages = leave_one_out(ro.rewards.sum(1).view(c.group_size, -1).T).T.reshape(-1, 1).expand_as(ro.mask)
        ro.advantages = whiten(advantages, ro.mask)

        updates = []
        for _ in range(c.ppo_epochs if c.algorithm == "ppo" else 1):
            for rows in torch.randperm(len(prompts)).split(c.minibatch):
                loss, clip_fraction = policy_loss(policy, value_head, ro, rows, c)
                retain = pack_pairs(rng.sample(retain_pairs, min(c.distill_batch, len(retain_pairs))), eos_id, device)
                distillation = distillation_loss(policy, reference, *retain)
                optimizer.zero_grad()
                (loss + c.distill_coef * distillation).backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                updates.append((clip_fraction, distillation.item()))
                step += 1
        clip_fraction, distillation = (sum(column) / len(updates) for column in zip(*updates))
        row = {"iteration": iteration, "step": step, "seconds": time.perf_counter() - began, **stats, "kl_coef": beta,
               "clip_fraction": clip_fraction, "distillation": distillation}
        if c.kl_target:
            # Ziegler et al. 2019, eq. 4: beta follows the KL's distance from its target, by a few per cent at most.
            beta *= 1 + 0.1 * min(max(stats["kl"] / c.kl_target - 1, -0.2), 0.2)
        state.update({name: part.state_dict() for name, part in learned.items()}, beta=beta, step=step, iteration=iteration,
                     rng=rng.getstate(), torch_rng=random_state(device))
        yield row
