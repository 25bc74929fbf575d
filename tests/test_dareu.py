import itertools

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from minidareu import dareu
from minidareu.dareu import gae, kl, leave_one_out, ppo_loss, reinforce_loss, value_loss, whiten

torch.manual_seed(0)


def random_mask(B, T):
    """Ones on a stretch of each row, as a response after its prompt and before padding."""
    mask = torch.zeros(B, T)
    for row in mask:
        start, end = sorted(torch.randperm(T + 1)[:2].tolist())
        row[start:end] = 1
    return mask


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.5), (0.99, 0.0), (1.0, 1.0)])
def test_gae_equals_the_double_sum(gamma, lam):
    B, T = 6, 9
    mask = random_mask(B, T)
    rewards, values = torch.randn(B, T) * mask, torch.randn(B, T)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    expected = torch.zeros(B, T)
    for b in range(B):
        on = mask[b].nonzero()[:, 0].tolist()
        delta = {t: rewards[b, t] + gamma * (values[b, t + 1] if t + 1 in on else 0) - values[b, t] for t in on}
        for t in on:
            expected[b, t] = sum((gamma * lam) ** (k - t) * delta[k] for k in on if k >= t)
    assert torch.allclose(advantages, expected, atol=1e-5)
    assert torch.allclose(returns, (expected + values) * mask, atol=1e-5)


def test_gae_at_lambda_1_is_the_monte_carlo_return():
    rewards, values, mask = torch.randn(4, 7), torch.randn(4, 7), torch.ones(4, 7)
    _, returns = gae(rewards, values, mask, 0.9, 1.0)
    for t in range(7):
        discounted = sum(0.9 ** (k - t) * rewards[:, k] for k in range(t, 7))
        assert torch.allclose(returns[:, t], discounted, atol=1e-5)


def test_leave_one_out_equals_a_loop():
    rewards = torch.randn(5, 4)
    for p, g in itertools.product(range(5), range(4)):
        others = [rewards[p, k] for k in range(4) if k != g]
        assert torch.allclose(leave_one_out(rewards)[p, g], rewards[p, g] - sum(others) / 3, atol=1e-6)


def test_ppo_gradient_at_ratio_1_is_the_policy_gradient():
    mask, advantages = random_mask(4, 6), torch.randn(4, 6)
    logp = torch.randn(4, 6, requires_grad=True)
    ppo_loss(logp, logp.detach(), advantages, mask, 0.2).backward()
    assert torch.allclose(logp.grad, -advantages * mask / mask.sum(), atol=1e-6)


def test_ppo_gradient_beyond_the_clip_is_zero_only_where_it_would_go_further():
    logp = torch.tensor([[0.5, 0.5, -0.5, -0.5]], requires_grad=True)  # ratios 1.65, 1.65, 0.61, 0.61
    ppo_loss(logp, torch.zeros(1, 4), torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.ones(1, 4), 0.2).backward()
    assert logp.grad[0, 0] == 0 and logp.grad[0, 3] == 0
    assert logp.grad[0, 1] > 0 and logp.grad[0, 2] < 0


def test_mean_reinforce_gradient_is_the_exact_gradient_of_the_expected_reward():
    """Two tokens from a vocabulary of three, rewards per response: every group of two responses is enumerated."""
    first, second = torch.randn(3, requires_grad=True), torch.randn(3, 3, requires_grad=True)  # logits; second given first
    reward = torch.randn(3, 3)

    def logp(y):
        return torch.stack([first.log_softmax(0)[y[0]], second.log_softmax(1)[y[0], y[1]]])

    responses = list(itertools.product(range(3), repeat=2))
    p = {y: logp(y).sum().exp() for y in responses}
    expected = torch.autograd.grad(sum(p[y] * reward[y] for y in responses), (first, second), retain_graph=True)
    mean = [torch.zeros(3), torch.zeros(3, 3)]
    for a, b in itertools.product(responses, repeat=2):
        advantages = leave_one_out(torch.stack([reward[a], reward[b]])[None]).view(2, 1).expand(2, 2)
        loss = reinforce_loss(torch.stack([logp(a), logp(b)]), advantages, torch.ones(2, 2))
        for total, g in zip(mean, torch.autograd.grad(loss, (first, second))):
            total -= (p[a] * p[b]).item() * g * 2  # the loss is a mean over tokens; a response has two
    for got, want in zip(mean, expected):
        assert torch.allclose(got, want, atol=1e-5)
        assert want.abs().max() > 0.01


def test_kl_and_entropy_equal_torch_distributions():
    a, b = torch.randn(5, 7).log_softmax(-1), torch.randn(5, 7).log_softmax(-1)
    assert torch.allclose(kl(a, b), kl_divergence(Categorical(logits=a), Categorical(logits=b)), atol=1e-6)


def test_value_loss_and_whitening():
    mask = torch.tensor([[0.0, 1, 1, 0]])
    values, old, returns = torch.tensor([[9.0, 1.0, 0.1, 9]]), torch.tensor([[9.0, 0.0, 0.0, 9]]), torch.tensor([[0.0, 1.0, 1.0, 0]])
    # Column 1: V reached the return, but clipped it lies at 0.2; column 2: within the clip.
    assert value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(0.5 * (0.8**2 + 0.9**2) / 2, abs=1e-6)
    x = torch.randn(6, 8)
    mask = random_mask(6, 8)
    w = whiten(x, mask)[mask.bool()]
    assert w.mean().item() == pytest.approx(0, abs=1e-5) and w.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    assert (whiten(x, mask)[~mask.bool()] == 0).all()


class FixedAttribution:
    """An attribution: the share of the tokens so far that are even; `prior` before the first."""

    def __init__(self, prior=0.0):
        self.prior = prior

    def __call__(self, prompts, responses):
        out = torch.zeros(len(responses), max(map(len, responses)) + 1)
        out[:, 0] = self.prior
        for row, y in zip(out, responses):
            for t in range(1, len(y) + 1):
                row[t] = sum(token % 2 == 0 for token in y[:t]) / t
        return out


def test_rollout_rewards_add_up_to_minus_the_attribution_and_the_kl():
    from minidareu.model import GPT, GPTConfig

    torch.manual_seed(0)
    policy, reference = (GPT(GPTConfig(20, 24, 1, 2, 8)) for _ in range(2))
    for model in (policy, reference):
        torch.nn.init.normal_(model.wte.weight, std=0.3)
    prompts, eos = [[1, 2, 3], [4], [5, 6]] * 20, 7
    asked = [[t + 8 for t in x] for x in prompts]  # what the models read; the classifier is given the prompts as they are
    ro, stats = dareu.rollout(policy, torch.nn.Linear(8, 1), reference, FixedAttribution(0.2), prompts, asked, 15, 10, eos, 0.3, 1.0)
    ends, own = set(), []
    for b, x in enumerate(asked):
        chosen = ro.mask[b].nonzero()[:, 0] + 1
        assert chosen[0] == len(x)
        y = ro.idx[b, chosen].tolist()
        ends.add(y[-1] == eos)
        n = len(x) + len(y)
        logp, ref = (m(ro.idx[b:b + 1, :n]).log_softmax(-1)[0, range(len(x) - 1, n - 1), y] for m in (policy, reference))
        assert torch.allclose(ro.logp[b][ro.mask[b].bool()], logp, atol=1e-4)
        words = [t for t in y if t != eos]
        a = sum(t % 2 == 0 for t in words) / len(words) if words else 0.2  # the prior
        own += [a] if b >= 15 else []
        assert torch.allclose(ro.rewards[b].sum(), -(a - 0.2) / 0.8 - 0.3 * (logp - ref).sum(), atol=1e-4)
        assert (ro.rewards[b][~ro.mask[b].bool()] == 0).all()
    assert ends == {True, False}, "the sample should hold finished and cut responses"
    assert stats["attribution"] == pytest.approx(sum(own) / len(own), abs=1e-5), "the reference's responses are not the policy's"


def test_the_reference_answers_first_and_its_responses_count_as_the_policys():
    from minidareu.model import GPT, GPTConfig

    policy, reference = (GPT(GPTConfig(20, 24, 1, 2, 8)) for _ in range(2))
    with torch.no_grad():
        for model, favourite in ((policy, 3), (reference, 4)):  # the one says 3 only, the other 4 only
            model.wte.weight.zero_()
            model.wte.weight[:, 0], model.ln_f.bias[0] = 0.0, 50.0
            model.wte.weight[favourite, 0] = 1.0
    ro, stats = dareu.rollout(policy, torch.nn.Linear(8, 1), reference, FixedAttribution(), [[1]] * 4, [[1]] * 4, 1, 5, 7, 0.1, 1.0)
    assert ro.idx[0, 1:].tolist() == [4] * 5 and (ro.idx[1:, 1:] == 3).all()
    assert (ro.logp[0] < -40).all() and (ro.logp[1:] > -1e-3).all(), "log-probabilities are the policy's for all of them"
    assert stats["attribution"] == 0


def test_prompt_dropout_leaves_out_a_share_of_the_tokens_but_never_all(monkeypatch):
    from types import SimpleNamespace

    from minidareu.model import GPT, GPTConfig

    calls = []

    def spy(policy, value_head, reference, classifier, prompts, asked, n_reference, *rest):
        calls.append((prompts, asked, n_reference))
        raise LookupError("seen enough")

    monkeypatch.setattr(dareu, "rollout", spy)
    c = SimpleNamespace(seed=0, iterations=1, prompts=50, group_size=4, reference_responses=1, prompt_dropout=0.3, rl_lr=0.01, kl_coef=0.1, temperature=1.0)
    forget = [[i] for i in range(20)] + [list(range(100, 120)) for _ in range(40)]
    with pytest.raises(LookupError):
        list(dareu.unlearn(GPT(GPTConfig(12, 16, 1, 2, 16)), None, forget, [], 6, 11, c, {}))
    prompts, asked, n_reference = calls[0]
    assert n_reference == 50 and len(prompts) == len(asked) == 200
    assert all(prompts[i] == prompts[i + 50] for i in range(150)), "the reference answers each prompt once, then the policy three times"
    assert all(x and [t for t in full if t in x] == x for x, full in zip(asked, prompts)), "in order, and never empty"
    long = [(len(x), len(full)) for x, full in zip(asked, prompts) if len(full) == 20]
    assert sum(a for a, _ in long) / sum(b for _, b in long) == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_unlearning_lowers_a_known_attribution_and_adapts_beta(algorithm):
    from types import SimpleNamespace

    from minidareu.model import GPT, GPTConfig

    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 16, 1, 2, 16))
    c = SimpleNamespace(seed=0, algorithm=algorithm, iterations=30, prompts=4, group_size=8, temperature=1.0, rl_lr=0.01, kl_coef=0.05, kl_target=0.1,
                        distill_coef=0.1, distill_batch=4, ppo_epochs=2, minibatch=16, clip=0.2, value_clip=0.2, value_coef=0.1, gamma=1.0, gae_lambda=0.95, reference_responses=2, prompt_dropout=0.1)
    before = [p.clone() for p in policy.parameters()]
    log = list(dareu.unlearn(policy, FixedAttribution(), [[1, 2], [3], [4, 5, 6], [7]], [([8], [9, 10])] * 8, 6, 11, c, {}))
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.parameters()))
    assert log[0]["attribution"] > 0.3 and log[-1]["attribution"] < 0.5 * log[0]["attribution"], "even tokens are what attributes"
    for now, following in zip(log, log[1:]):
        change = following["kl_coef"] / now["kl_coef"] - 1
        assert change == pytest.approx(0.1 * min(max(now["kl"] / 0.1 - 1, -0.2), 0.2))
    assert len({row["kl_coef"] for row in log}) > 5
    assert any(row["clip_fraction"] > 0 for row in log) == (algorithm == "ppo")
