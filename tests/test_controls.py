"""Controls: what stands in the place of the attribution."""

import pytest
import torch

from minidareu.beyond.controls import controlled
from test_dareu import chi, even, tiny, unlearn


def test_a_control_by_hand():
    a = torch.rand(50, 9)
    attribute = lambda *texts: a
    assert controlled(attribute, "slices") is attribute
    assert (controlled(attribute, "constant")([], []) == 0.5).all()
    assert torch.allclose(controlled(attribute, "reversed")([], [], []), 1 - a)
    random = controlled(attribute, "random")([], [])
    assert random.shape == a.shape and 0.4 < random.mean() < 0.6 and not torch.equal(random, a)


def test_shuffled_deals_every_row_to_another_response():
    a = torch.arange(12.0).view(4, 3)
    for seed in range(5):
        torch.manual_seed(seed)
        dealt = controlled(lambda: a, "shuffled")()
        assert sorted(dealt.tolist()) == a.tolist() and not (dealt == a).any()
    assert torch.equal(controlled(lambda: a[:1], "shuffled")(), a[:1]), "alone, it stays"


def test_random_controls_are_seeded():
    torch.manual_seed(3)
    first = controlled(lambda: torch.zeros(2, 3), "random")()
    torch.manual_seed(3)
    assert torch.equal(first, controlled(lambda: torch.ones(2, 3), "random")())


def test_dareu_is_given_the_control():
    log = list(unlearn(tiny(), controlled(even, "constant"), whiten="none", gamma=0.0))
    assert log[0]["reward"] == pytest.approx(chi(0.5), abs=1e-5)
