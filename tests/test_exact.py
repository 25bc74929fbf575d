"""Exact attribution against direct computations, and on an owner whom nobody would miss."""

import json
import math

import numpy
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


def random_model():
    model = GPT(GPTConfig(9, 16, 1, 2, 8))
    torch.nn.init.normal_(model.wte.weight, std=0.5)
    return model


def test_a_model_that_can_be_checked_by_hand():
    """Original: p = 1/2, 1/4, 1/4. Without the owner: 1/4, 1/4, 1/2."""
    target, without = (
        constant_model([math.log(2), 0.0, 0.0]),
        constant_model([0.0, 0.0, math.log(2)]),
    )
    a = exact.exact_attribution(target, without, [[1], [2, 2, 2], [0]], [[0, 0, 1], [2], []])
    two = math.log(2)
    assert torch.allclose(
        a,
        torch.tensor([[0, two, 2 * two, 2 * two], [0, -two, -two, -two], [0, 0, 0, 0]]),
        atol=1e-5,
    )
    means = exact.mean_logp(target, [[1], [2, 2, 2], [0]], [[0, 0, 1], [2], []])
    assert torch.allclose(means, torch.tensor([-(1 + 1 + 2) * two / 3, -2 * two, 0.0]), atol=1e-5)


def test_it_equals_a_loop_over_tokens():
    torch.manual_seed(0)
    target, without = random_model(), random_model()
    prompts, responses = [[1, 2, 3], [4], [5, 6]], [[7, 8], [1, 2, 3, 4], [3]]
    a = exact.exact_attribution(target, without, prompts, responses)
    for row, x, y in zip(a, prompts, responses):
        total = 0.0
        for t, token in enumerate(y):
            for model, sign in ((target, 1), (without, -1)):
                total += (
                    sign * model(torch.tensor([x + y[:t]]))[0, -1].log_softmax(-1)[token].item()
                )
            assert row[t + 1].item() == pytest.approx(total, abs=1e-5)
        assert row[0] == 0


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
    found = json.loads((twins[1] / "exact.json").read_text())["training responses"]
    own = [found["by_owner"][i][i] for i in range(6)]
    assert abs(own[0]) < found["noise_95"] and abs(own[5]) < found["noise_95"], (
        "what the twin holds too is not lost"
    )
    assert min(own[1:5]) > 10 * found["noise_95"] and found["noise_95"] > 0
    arrays = numpy.load(twins[1] / "exact.npz")
    matrix, owners = arrays["training responses"], arrays["owners"]
    assert matrix.shape == (6, 72) and arrays["original model's samples, noise"].shape == (3, 72)
    means = [[matrix[o, owners == p].mean() for p in range(6)] for o in range(6)]
    assert numpy.allclose(means, found["by_owner"], atol=1e-5)
    alone = (owners > 0) & (owners < 5)
    assert (matrix.argmax(0) == owners)[alone].all()


def test_the_matrix_is_of_the_models_that_were_left(twins):
    from minidareu.run.flags import parse
    from minidareu.run.prepare import prepare

    run = prepare(parse(twins[0][:-6], ""))
    models = {}
    for name in ("original", "without-2"):
        models[name] = GPT(run.gpt_config)
        models[name].load_state_dict(
            torch.load(twins[1] / f"seed0/{name}.pt", weights_only=True)["model"]
        )
    x, y = zip(*(run.pairs[r] for r in run.train[:20]))
    expected = exact.exact_attribution(models["original"], models["without-2"], x, y)[
        :, -1
    ] / torch.tensor([len(r) for r in y])
    assert numpy.allclose(
        numpy.load(twins[1] / "exact.npz")["training responses"][2, :20], expected, atol=1e-5
    )


def test_it_goes_on_where_it_was_cut(twins, capsys):
    argv, out = twins
    before, old = (
        {p: p.stat().st_mtime_ns for p in out.glob("seed*/*.pt")},
        (out / "exact.npz").read_bytes(),
    )
    assert len(before) == 9  # 6 without an owner, and 3 target models
    gone = {out / "seed0/without-3.pt", out / "seed0/without-4.pt"}
    for path in gone:
        path.unlink()
    exact.main(argv)
    after = {p: p.stat().st_mtime_ns for p in out.glob("seed*/*.pt")}
    assert {p for p in after if after[p] != before[p]} == gone
    assert (out / "exact.npz").read_bytes() == old
    assert "top-1 own" in capsys.readouterr().out


def test_bad_input_is_one_line(twins, tmp_path):
    argv, out = twins
    with pytest.raises(InputError, match="--no-such-flag"):
        exact.main([*argv, "--no-such-flag", "1"])
    with pytest.raises(InputError, match="--floor-seeds"):
        exact.main([*argv, "--floor-seeds", "0"])
