"""SCRN, the second-order method that DareU is compared with: Newton's method with a cubic term on
samples of the retain set (Bui et al. 2026, after Carmon and Duchi 2016, Algorithm 2).

    for each outer step
        g    the gradient of -log pi on one sample of D_R
        H    the Hessian of the same on another; only products H v are computed
        s    about the minimum of g's + s'Hs / 2 + M / 6 |s|^3
        theta <- theta + s

It never reads the forget set: a step on D_R alone is meant to leave behind what D_R does not need.
"""

import random
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .baselines import LossConfig, cross_entropy
from .data import Task
from .model import Policy, pack_pairs

OUTER_STEPS, INNER_STEPS, M = 2, 4, 400.0  # the paper's (App. E.2)
SAMPLE_SIZE = 64  # rows of D_R
LR = 0.01  # of the inner descent, chosen by `python -m minidareu.paper search`
SOURCES = ["baselines", "data", "files", "model", "newton", "rl"]


def cauchy_point(g: Tensor, product: Callable, M: float) -> Tensor:
    """The minimum of g's + s'Hs / 2 + M / 6 |s|^3 along s = -R g / |g|.

    g: (P,), the gradient at all parameters; product(v) = H v.
    """
    length = g.norm()
    a = (g @ product(g)) / (M * length**2)
    R = -a + (a**2 + 2 * length / M).sqrt()
    return -R * g / length


def cubic_step(g: Tensor, product: Callable, M: float, lr: float, inner_steps: int) -> Tensor:
    """s by gradient descent from the Cauchy point. g, s: (P,); product(v) = H v.

    A random direction of length 0.001 is added to g, so that descent can't stop at a saddle.
    """
    s = cauchy_point(g, product, M)
    direction = torch.randn_like(g)
    g = g + 1e-3 * direction / direction.norm()
    for _ in range(inner_steps):
        s = s - lr * (g + product(s) + M / 2 * s.norm() * s)
    return s


def unlearn(policy: Policy, task: Task, config: LossConfig) -> Iterator[dict]:
    """Make `policy` forget, in place. Yields a dict of figures after each outer step."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    parameters = list(policy.parameters())

    def gradient(create_graph):
        rows = rng.sample(task.retain, min(SAMPLE_SIZE, len(task.retain)))
        loss = cross_entropy(policy, pack_pairs(rows, task.eos_id, policy.device))
        parts = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return loss, parameters_to_vector(parts)

    for step in range(1, OUTER_STEPS + 1):
        loss, g = gradient(create_graph=False)
        with sdpa_kernel(SDPBackend.MATH):  # the one attention kernel that can be derived twice
            _, slope = gradient(create_graph=True)

            def product(v, slope=slope):
                parts = torch.autograd.grad(slope @ v, parameters, retain_graph=True)
                return parameters_to_vector(parts)

            lr = config.baseline_lr or LR
            s = cubic_step(g, product, M=M, lr=lr, inner_steps=INNER_STEPS)
        vector_to_parameters(parameters_to_vector(parameters).detach() + s, parameters)
        figures = {"loss": loss.item(), "step_length": s.norm().item()}
        yield {"step": step, "steps": OUTER_STEPS, **figures}
