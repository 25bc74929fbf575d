import random

import pytest
import torch
from scipy.stats import spearmanr

from minidareu.model import GPT, GPTConfig
from minidareu.proxy import calibration, sample, spearman


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_spearman_equals_scipys_with_and_without_ties(levels):
    rng = random.Random(levels)
    for _ in range(20):
        x = [rng.randrange(levels) for _ in range(50)]
        y = [a + rng.randrange(levels) for a in x]
        assert spearman(torch.tensor(x), torch.tensor(y)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)
    assert spearman(torch.ones(5), torch.arange(5)) is None


def test_calibration_equals_a_loop_over_bins():
    torch.manual_seed(0)
    confidence, correct = torch.rand(300), torch.rand(300) < 0.7
    rows, error = calibration(confidence, correct)
    expected = 0
    for b in range(10):
        inside = [(c, k) for c, k in zip(confidence.tolist(), correct.tolist()) if b / 10 <= c < (b + 1) / 10]
        sure, right = (sum(column) / len(inside) for column in zip(*inside))
        assert rows[b] == pytest.approx([sure, right, len(inside) / 300], abs=1e-5)
        expected += len(inside) / 300 * abs(sure - right)
    assert error == pytest.approx(expected, abs=1e-5)
    assert calibration(torch.ones(4), torch.tensor([True, True, True, False])) == ([[1.0, 0.75, 1.0]], 0.25)


def test_sampling_leaves_the_generator_as_it_was():
    from types import SimpleNamespace

    model = GPT(GPTConfig(9, 16, 1, 2, 8))
    y = SimpleNamespace(max_new_tokens=5, tokenizer=SimpleNamespace(eot_token=8))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = sample(model, [[1], [2, 3]] * 10, y, seed=5)
    assert torch.equal(torch.get_rng_state(), before) and a == sample(model, [[1], [2, 3]] * 10, y, seed=5) != sample(model, [[1], [2, 3]] * 10, y, 6)
