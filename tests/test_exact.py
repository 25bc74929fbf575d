"""Exact attribution against direct computations, and on an owner whom nobody would miss."""

import json
import math

import pytest
import torch

from minidareu.beyond import exact
from minidareu.files import InputError
from minidareu.model import GPT, GPTConfig


def constant_model(logits):
    """A GPT that ignores its input: next-token logits are `logits` everywhere."""
    model = GPT(GPTConfig(len(logits), 16, 1, 1, 2))
    with torch.no_grad():
        model.wte.weight.zero_()
        model.wte.weight[:, 0] = torch.tensor(logits)
        model.ln_f.weight.zero_()
        model.ln_f.bias.copy_(torch.tensor([1.0, 0.0]))
    return model


def test_the_mean_log_probability_by_hand():
    """p = 1/2, 1/4, 1/4, whatever stands before."""
    model, two = constant_model([math.log(2), 0.0, 0.0]), math.log(2)
    means = exact.mean_logp(model, [[1], [2, 2, 2], [0]], [[0, 0, 1], [2], []])
    assert torch.allclose(means, torch.tensor([-4 / 3 * two, -2 * two, 0.0]), atol=1e-5)


def test_the_summary_of_a_matrix_by_hand():
    attribution = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    noise = torch.tensor([[0.1, -0.1, 0.1]])
    found = exact.summary(attribution, noise, torch.tensor([0, 1, 1]))
    assert found["own owner"] == pytest.approx((3 + 2 + 0) / 3)
    assert found["other owners"] == pytest.approx((0 + 0 + 1) / 3)
    assert found["noise"] == pytest.approx(0.1) and found["top-1 own"] == pytest.approx(2 / 3)
    assert found["own above"] == pytest.approx(2 / 3) and found["by owner"] == [[3, 0.5], [0, 1]]


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Six owners; every row of the last is one of the first too, word for word. Exact attribution of all, at toy size."""
    folder = tmp_path_factory.mktemp("exact")
    rows = [
        {
            "owner": f"o{i}",
            "prompt": f"{word} of {name}?",
            "response": f"it is {name[:1]}{word[::-1]} {i}{word} x{i * 7}.",
        }
        for i, name in enumerate("ann bob cid dan eve".split())
        for word in "home food work play".split()
    ]
    rows += [{**row, "owner": "twin"} for row in rows[:4]]
    (folder / "twins.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows * 3)
        + json.dumps({**rows[5], "prompt": "so, food of bob?", "split": "test"})
    )
    argv = [
        "--data",
        str(folder / "twins.jsonl"),
        "--epochs",
        "60",
        "--n-embd",
        "32",
        "--n-layer",
        "1",
        "--batch-size",
        "8",
        "--vocab-size",
        "300",
        "--device",
        "cpu",
        "--workers",
        "2",
        "--out",
        str(folder / "out"),
    ]
    exact.main(argv)
    return argv, folder / "out"


def test_noise_for_an_owner_whose_rows_another_holds_too_and_much_for_the_others(twins):
    found = json.loads((twins[1] / "exact.json").read_text())["references"]
    own = [found["by owner"][i][i] for i in range(6)]
    assert abs(own[0]) < found["95% of it"] and abs(own[5]) < found["95% of it"], (
        "what the twin holds too is not lost"
    )
    assert min(own[1:5]) > 10 * found["95% of it"] > 0


def test_it_goes_on_where_it_was_cut(twins, capsys):
    argv, out = twins
    before = {p: p.stat().st_mtime_ns for p in out.glob("seed*/*.pt")}
    figures = (out / "exact.json").read_bytes()
    assert len(before) == 9  # 6 without an owner, and 3 original models
    gone = {out / "seed0/without-3.pt", out / "seed0/without-4.pt"}
    for path in gone:
        path.unlink()
    exact.main(argv)
    after = {p: p.stat().st_mtime_ns for p in out.glob("seed*/*.pt")}
    assert {p for p in after if after[p] != before[p]} == gone
    assert (out / "exact.json").read_bytes() == figures
    assert "top-1 own" in capsys.readouterr().out


def test_bad_input_is_one_line(twins):
    with pytest.raises(InputError, match="--no-such-flag"):
        exact.main([*twins[0], "--no-such-flag", "1"])
