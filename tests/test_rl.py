"""The textbook pieces against double sums, enumeration and torch.distributions."""

import itertools

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from minidareu.rl import approximate_kl, clip_fraction, discounted_returns, entropy
from minidareu.rl import explained_variance, gae, kl, masked_mean, ppo_loss, reinforce_loss
from minidareu.rl import value_loss, whiten

torch.manual_seed(0)


def random_mask(B, T):
    """Ones up to a random length, zero length included."""
    lengths = torch.randint(0, T + 1, (B, 1))
    return (torch.arange(T) < lengths).float()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
def test_returns_equal_the_sum(gamma):
    mask = random_mask(6, 9)
    rewards = torch.randn(6, 9)
    returns = discounted_returns(rewards, mask, gamma)
    for b in range(6):
        length = int(mask[b].sum())
        for t in range(9):
            rest = [gamma**j * rewards[b, t + j] for j in range(length - t)]
            assert returns[b, t].item() == pytest.approx(float(sum(rest)), abs=1e-5)


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.5), (0.99, 0.0), (1.0, 1.0)])
def test_gae_equals_the_double_sum(gamma, lam):
    mask = random_mask(6, 9)
    rewards, values = torch.randn(6, 9) * mask, torch.randn(6, 9)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    expected = torch.zeros(6, 9)
    for b in range(6):
        length = int(mask[b].sum())
        following = [values[b, t + 1] if t + 1 < length else 0 for t in range(length)]
        delta = [rewards[b, t] + gamma * following[t] - values[b, t] for t in range(length)]
        for t in range(length):
            expected[b, t] = sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
    assert torch.allclose(advantages, expected, atol=1e-5)
    assert torch.allclose(returns, (expected + values) * mask, atol=1e-5)


def test_gae_at_lambda_1_is_the_return_minus_the_value():
    mask = random_mask(6, 7)
    rewards, values = torch.randn(6, 7) * mask, torch.randn(6, 7)
    advantages, returns = gae(rewards, values, mask, 0.9, 1.0)
    expected = discounted_returns(rewards, mask, 0.9)
    assert torch.allclose(returns, expected, atol=1e-5)
    assert torch.allclose(advantages, expected - values * mask, atol=1e-5)


def test_ppo_gradient_at_ratio_1_is_the_policy_gradient():
    mask, advantages = random_mask(4, 6), torch.randn(4, 6)
    mask[0] = 1
    logp = torch.randn(4, 6, requires_grad=True)
    ppo_loss(logp, logp.detach(), advantages, mask, 0.2).backward()
    assert torch.allclose(logp.grad, -advantages * mask / mask.sum(), atol=1e-6)


def test_ppo_gradient_beyond_the_clip_is_zero_only_where_it_would_go_further():
    logp = torch.tensor([[0.5, 0.5, -0.5, -0.5]], requires_grad=True)  # ratios 1.65, ..., 0.61
    advantages, ones = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.ones(1, 4)
    ppo_loss(logp, torch.zeros(1, 4), advantages, ones, 0.2).backward()
    assert logp.grad[0, 0] == 0 and logp.grad[0, 3] == 0
    assert logp.grad[0, 1] > 0 and logp.grad[0, 2] < 0
    assert clip_fraction(logp.detach(), torch.zeros(1, 4), ones, 0.2) == 1
    assert clip_fraction(logp.detach() / 10, torch.zeros(1, 4), ones, 0.2) == 0


def test_mean_reinforce_gradient_is_the_exact_gradient_of_the_expected_reward():
    """Two tokens of a vocabulary of three: every pair of responses is enumerated."""
    first = torch.randn(3, requires_grad=True)  # logits
    second = torch.randn(3, 3, requires_grad=True)  # given the first token
    reward = torch.randn(3, 3)

    def logp(y):
        return torch.stack([first.log_softmax(0)[y[0]], second.log_softmax(1)[y[0], y[1]]])

    responses = list(itertools.product(range(3), repeat=2))
    p = {y: logp(y).sum().exp() for y in responses}
    expected_reward = sum(p[y] * reward[y] for y in responses)
    expected = torch.autograd.grad(expected_reward, (first, second), retain_graph=True)
    mean = [torch.zeros(3), torch.zeros(3, 3)]
    for a, b in itertools.product(responses, repeat=2):
        # Each response's reward minus the other's: a baseline that does not see the response.
        advantages = torch.stack([reward[a] - reward[b], reward[b] - reward[a]])[:, None]
        loss = reinforce_loss(
            torch.stack([logp(a), logp(b)]), advantages.expand(2, 2), torch.ones(2, 2)
        )
        gradients = torch.autograd.grad(loss, (first, second))
        for total, g in zip(mean, gradients, strict=True):
            total -= (p[a] * p[b]).item() * g * 2  # a mean over tokens; a response has two
    for got, want in zip(mean, expected, strict=True):
        assert torch.allclose(got, want, atol=1e-5) and want.abs().max() > 0.01


def test_kl_and_entropy_equal_torch_distributions():
    a, b = torch.randn(5, 4, 7).log_softmax(-1), torch.randn(5, 4, 7).log_softmax(-1)
    p, q = Categorical(logits=a), Categorical(logits=b)
    assert torch.allclose(kl(a, b), kl_divergence(p, q), atol=1e-6)
    assert torch.allclose(entropy(a), p.entropy(), atol=1e-6)


def test_value_loss_and_whitening():
    mask = torch.tensor([[1.0, 1, 0]])
    values, returns = torch.tensor([[1.0, 0.1, 9]]), torch.tensor([[0.5, 1.0, 0]])
    assert value_loss(values, returns, mask).item() == pytest.approx((0.25 + 0.81) / 4, abs=1e-6)
    x, mask = torch.randn(6, 8), random_mask(6, 8)
    mask[0] = 1
    whitened = whiten(x, mask)
    inside = whitened[mask.bool()]
    assert inside.mean().item() == pytest.approx(0, abs=1e-5)
    assert inside.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    assert (whitened[~mask.bool()] == 0).all()
    assert masked_mean(x, mask).item() == pytest.approx(x[mask.bool()].mean().item(), abs=1e-6)


def test_approximate_kl_is_the_kl_on_many_samples():
    torch.manual_seed(0)
    old, new = torch.randn(8).log_softmax(-1), torch.randn(8).log_softmax(-1)
    tokens = torch.multinomial(old.exp(), 200_000, replacement=True)[None]
    estimate = approximate_kl(new[tokens], old[tokens], torch.ones(tokens.shape))
    assert estimate.item() == pytest.approx(kl(old, new).item(), rel=0.03)
    mask = torch.ones(tokens.shape)
    mask[:, 100:] = 0
    few = approximate_kl(new[tokens], old[tokens], mask)
    assert few.item() == pytest.approx(
        approximate_kl(new[tokens[:, :100]], old[tokens[:, :100]], mask[:, :100]).item(), rel=1e-5
    )


def test_explained_variance_by_hand():
    mask = random_mask(6, 7)
    returns = torch.randn(6, 7) * mask
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1)
    assert explained_variance(returns + 3, returns, mask).item() == pytest.approx(1)
    assert explained_variance(torch.full_like(returns, 2.0), returns, mask).abs() < 1e-5
    values = torch.randn(6, 7)
    on = mask > 0
    expected = 1 - (returns - values)[on].var() / returns[on].var()
    assert explained_variance(values, returns, mask).item() == pytest.approx(expected.item())
    constant = explained_variance(values, torch.ones_like(returns), mask)
    assert constant.isfinite(), "a number where the returns are all the same"
