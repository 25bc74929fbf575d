"""SCRN's step against closed forms on a quadratic, and its Hessian against finite differences."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from minidareu import newton
from minidareu.data import Task
from minidareu.run.flags import Config
from minidareu.baselines import cross_entropy
from minidareu.model import GPT, GPTConfig, pack_pairs


def cubic(s, g, H, M):
    return g @ s + s @ H @ s / 2 + M / 6 * s.norm() ** 3


def quadratic(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=generator, dtype=torch.double)
    return torch.randn(n, generator=generator, dtype=torch.double), A @ A.T / n


def test_the_cauchy_point_is_the_minimum_along_the_gradient():
    g, H = quadratic()
    s = newton.cauchy_point(g, lambda v: H @ v, M=5.0)
    lengths = torch.linspace(0, 3, 30001, dtype=torch.double)
    values = torch.stack([cubic(-r * g / g.norm(), g, H, 5.0) for r in lengths])
    assert s.norm().item() == pytest.approx(lengths[values.argmin()].item(), abs=2e-4)
    assert torch.allclose(s / s.norm(), -g / g.norm())
    flat = newton.cauchy_point(g, lambda v: 0 * v, M=5.0)
    assert flat.norm().item() == pytest.approx((2 * g.norm().item() / 5) ** 0.5)


def test_descent_comes_to_the_minimum_of_the_cubic_model():
    """There, g + H s + M/2 |s| s = 0."""
    torch.manual_seed(0)
    g, H = quadratic()
    s = newton.cubic_step(g, lambda v: H @ v, M=5.0, lr=0.05, inner_steps=4000)
    slope = g + H @ s + 2.5 * s.norm() * s
    assert slope.norm() < 2e-3, "but for the random direction of length 0.001"
    few = newton.cubic_step(g, lambda v: H @ v, M=5.0, lr=0.05, inner_steps=4)
    start = newton.cauchy_point(g, lambda v: H @ v, M=5.0)
    assert cubic(s, g, H, 5.0) < cubic(few, g, H, 5.0) < cubic(start, g, H, 5.0)


def test_products_with_the_hessian_of_a_gpt_and_one_run(monkeypatch):
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 8, 1, 2, 8)).double()
    retain = [([1, 2], [3, 4, 5]), ([6], [7, 8]), ([2, 9], [10])] * 2
    calls = []

    def spy(g, product, M, lr, inner_steps):
        v = torch.randn_like(g)
        calls.append((g, v, product(v)))
        return torch.zeros_like(g)

    monkeypatch.setattr(newton, "cubic_step", spy)
    rows = list(newton.unlearn(policy, Task([], retain, 8, eos_id=11), Config(baseline_lr=0.1)))
    assert [row["step"] for row in rows] == [1, 2] and len(calls) == 2
    _, v, product = calls[0]
    batch = pack_pairs(retain, 11, "cpu")  # the sample is all rows
    start = parameters_to_vector(policy.parameters()).detach()

    def slope(at):
        vector_to_parameters(at, policy.parameters())
        with sdpa_kernel(SDPBackend.MATH):
            loss = cross_entropy(policy, batch)
        return parameters_to_vector(torch.autograd.grad(loss, list(policy.parameters())))

    numeric = (slope(start + 1e-5 * v) - slope(start - 1e-5 * v)) / 2e-5
    assert (product - numeric).norm() < 1e-5 * numeric.norm()


def test_it_moves_the_policy():
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 8, 1, 2, 8))
    start = parameters_to_vector(policy.parameters()).detach().clone()
    rows = list(newton.unlearn(policy, Task([], [([1], [3, 4])] * 9, 8, eos_id=11), Config()))
    moved = (parameters_to_vector(policy.parameters()).detach() - start).norm().item()
    assert 0 < moved <= sum(row["step_length"] for row in rows) + 1e-6
