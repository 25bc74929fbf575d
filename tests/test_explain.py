"""One response explained: its columns against the definitions, and what is said of it."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from minidareu.attribution import prefix_attribution
from minidareu.beyond.controls import controlled
from minidareu.explain import __main__ as explain
from minidareu.files import InputError
from minidareu.model import pack
from minidareu.run.prepare import open_run
from minidareu.run.stages import load_classifier, load_models


@pytest.fixture(scope="module")
def opened(run):
    return open_run(run[1], "cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reward": "constant"},
        {"reward": "reversed"},
        {"reward": "token"},
        {"retain_updates": "joint", "renew_old_policy": "epoch"},
    ],
)
def test_the_columns_of_dareu_follow_from_each_other(opened, changes):
    """What is shown is what the run used: its own reward, or control."""
    run = replace(opened, config=replace(opened.config, **changes))
    original = load_models(run)["original"]
    rows = explain.forget_queries(run, None)
    attribute = partial(prefix_attribution, load_classifier(run))
    attribute = controlled(attribute, run.config.reward)
    tokens, columns = explain.explain_dareu(run, original, attribute, rows)
    c, T = run.config, len(tokens)
    assert all(len(values) == T for values in columns.values())
    batch = pack([rows[0][0]], [tokens], "cpu")
    with torch.no_grad():
        logits = original(batch.idx)[0, len(rows[0][0]) - 1 : -1] / c.temperature
    p = logits.softmax(dim=-1)[torch.arange(T), tokens]
    renewed = c.renew_old_policy == "batch"
    assert torch.allclose(columns["pi_old"], p, atol=1e-4) != renewed
    if c.reward == "constant":
        assert (columns["DA"] == 0.5).all()
    chi = [max(-1.0, float(torch.log(1 - b.clamp(1e-4, 1 - 1e-4)) / 1.05)) for b in columns["DA"]]
    assert columns["chi"].tolist() == pytest.approx(chi, abs=1e-5)
    means = [sum(chi[: t + 1]) / (t + 1) for t in range(T)]
    assert columns["prefix mean"].tolist() == pytest.approx(means, abs=1e-5)
    rewards = [m - c.kl_coef * k for m, k in zip(means, columns["KL"].tolist())]
    assert columns["reward"].tolist() == pytest.approx(rewards, abs=1e-5)
    returns, total = [], 0.0
    for r in reversed(rewards):
        total = r + c.gamma * total
        returns.insert(0, total)
    assert columns["return"].tolist() == pytest.approx(returns, abs=1e-3)
    assert (columns["KL"] >= -1e-6).all()
    assert columns["KL"].max() > 1e-6, "pi has moved away from pi_N already"
    # GAE by its recursion; whitening is a shift and a scale, so the two are on a line.
    values, advantages, following = columns["V"].tolist(), [], 0.0
    for t in reversed(range(T)):
        next_value = values[t + 1] if t + 1 < T else 0.0
        delta = rewards[t] + c.gamma * next_value - values[t]
        following = delta + c.gamma * c.gae_lambda * following
        advantages.insert(0, following)
    raw = torch.tensor(advantages)
    assert torch.corrcoef(torch.stack([raw, columns["advantage"]]))[0, 1] > 0.999


def test_the_command_prints_it_and_asks_for_a_forgotten_owner(run, opened, capsys):
    prompt = opened.split.forget[3].prompt
    explain.main(["--run", str(run[1]), prompt, "--device", "cpu"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"prompt: {prompt}\n") and printed.count("Pushed down: ") == 1
    assert "DareU: before and after 5 updates" in printed and "<end>" in printed
    with pytest.raises(InputError, match="not of the forget set; the nearest are '"):
        explain.main(["--run", str(run[1]), prompt + "?", "--device", "cpu"])


def test_the_first_prompt_is_the_default(opened):
    rows = explain.forget_queries(opened, None)
    asked = explain.forget_queries(opened, opened.split.forget[5].prompt)
    assert asked[0] == rows[5] and sorted(map(str, asked)) == sorted(map(str, rows))
    assert opened.config.updates_per_batch == 5
