import random

import pytest
import torch
from scipy.stats import spearmanr

from minidareu.model import GPT, GPTConfig
from minidareu.beyond.proxy import OWES, agreement, calibration, sample, spearman


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_spearman_equals_scipys_with_and_without_ties(levels):
    rng = random.Random(levels)
    for _ in range(20):
        x = [rng.randrange(levels) for _ in range(50)]
        y = [a + rng.randrange(levels) for a in x]
        assert spearman(torch.tensor(x), torch.tensor(y)) == pytest.approx(
            spearmanr(x, y).statistic, abs=1e-9
        )
    assert spearman(torch.ones(5), torch.arange(5)) is None


def test_calibration_equals_a_loop_over_bins():
    torch.manual_seed(0)
    confidence, correct = torch.rand(300), torch.rand(300) < 0.7
    rows, error = calibration(confidence, correct)
    expected = 0
    for b in range(10):
        inside = [
            (c, k)
            for c, k in zip(confidence.tolist(), correct.tolist())
            if b / 10 <= c < (b + 1) / 10
        ]
        sure, right = (sum(column) / len(inside) for column in zip(*inside))
        assert rows[b] == pytest.approx([sure, right, len(inside) / 300], abs=1e-5)
        expected += len(inside) / 300 * abs(sure - right)
    assert error == pytest.approx(expected, abs=1e-5)
    assert calibration(torch.ones(4), torch.tensor([True, True, True, False])) == (
        [[1.0, 0.75, 1.0]],
        0.25,
    )


def test_sampling_leaves_the_generator_as_it_was():
    from types import SimpleNamespace

    model = GPT(GPTConfig(9, 16, 1, 2, 8))
    y = SimpleNamespace(limits={"max_new_tokens": 5, "eos_id": 8})
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = sample(model, [[1], [2, 3]] * 10, y, seed=5)
    assert torch.equal(torch.get_rng_state(), before) and a == sample(
        model, [[1], [2, 3]] * 10, y, seed=5
    ) != sample(model, [[1], [2, 3]] * 10, y, 6)


def test_agreement_equals_a_loop():
    torch.manual_seed(0)
    exact, added = torch.randn(4, 60), torch.rand(60)
    exact[:, :20] = 1 + 0.1 * torch.randn(
        4, 20
    )  # these clearly owe something; of the others, some by luck
    added[:20] += 0.3
    found = agreement({"exact": exact, "added": added})
    owes = []
    for column in exact.T.tolist():
        mean = sum(column) / 4
        error = (sum((v - mean) ** 2 for v in column) / 3 / 4) ** 0.5
        owes.append(mean > 2 * error and mean > OWES)
    pairs = [
        (a > b) + (a == b) / 2
        for a, o in zip(added.tolist(), owes)
        if o
        for b, p in zip(added.tolist(), owes)
        if not p
    ]
    assert found["owes"] == pytest.approx(sum(owes) / 60) and 20 <= sum(owes) < 60
    assert (
        found["auc"]["added"] == pytest.approx(sum(pairs) / len(pairs))
        and found["auc"]["added"] > 0.6
    )
    assert found["spearman"]["added"] == pytest.approx(
        spearmanr(added, exact.mean(0)).statistic, abs=1e-6
    )
    others = [
        spearmanr(exact[i], exact[[j for j in range(4) if j != i]].mean(0)).statistic
        for i in range(4)
    ]
    assert found["spearman"]["another seed"] == pytest.approx(sum(others) / 4, abs=1e-6)
    alone = agreement({"exact": exact[:1], "added": added})
    assert (
        alone["owes"] == 0
        and alone["auc"]["added"] is None
        and alone["spearman"]["another seed"] is None
    ), "one seed shows no error"
