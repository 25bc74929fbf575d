"""Each loss against the formula of its paper, written anew: a loop over responses and tokens, in float64, gradients included."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from minidareu import baselines, newton
from minidareu.baselines import METHODS, REFUSALS, Batches, LossMethod
from minidareu.data import Task
from minidareu.paper.search import STAGES
from minidareu.run.flags import Config, parse
from minidareu.model import GPT, Batch, GPTConfig, pack

ROOT = Path(__file__).parent.parent
PAIRS = {
    "forget": ([[1, 2, 3], [4, 5], [6]], [[7, 8, 9, 10], [11, 12], [13, 14, 15]]),
    "refusal": ([[1, 2, 3], [4, 5], [6]], [[16, 17], [16, 18, 19], [17]]),
    "retain": ([[2, 2], [3]], [[19, 18, 17, 5], [4, 1]]),
}


@pytest.fixture
def models():
    torch.manual_seed(0)
    made = [GPT(GPTConfig(20, 12, 3, 2, 8)).double() for _ in range(2)]
    for model in made:
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return made


def packed(pairs):
    batch = pack(*pairs, "cpu")
    return replace(batch, mask=batch.mask.double())


def logits_of(model, x, y):
    """Logits that choose each token of y, of one unpadded sequence: (len(y), V)."""
    return model(torch.tensor([x + y]))[0, len(x) - 1 : -1]


def logp(model, x, y):
    """log p(y | x), a sum over tokens."""
    total = 0
    for row, token in zip(logits_of(model, x, y), y):
        total = total + row[token] - row.exp().sum().log()
    return total


def pairs(name):
    return list(zip(*PAIRS[name]))


def token_mean(model, name):
    return -sum(logp(model, x, y) for x, y in pairs(name)) / sum(len(y) for _, y in pairs(name))


def kl_mean(pi, ref, name):
    """KL(ref || pi), a mean over the tokens of all responses."""
    total, n = 0, 0
    for x, y in pairs(name):
        p, q = logits_of(ref, x, y).detach().softmax(-1), logits_of(pi, x, y).softmax(-1)
        total, n = total + (p * (p / q).log()).sum(), n + len(y)
    return total / n


def log_sigmoid(z):
    return -(1 + (-z).exp()).log()


def formula(name, pi, ref):
    forget = pairs("forget")
    n_forget = sum(len(y) for _, y in forget)
    with torch.no_grad():
        ref_forget = [logp(ref, *pair) for pair in forget]
        ref_refusal = [logp(ref, *pair) for pair in pairs("refusal")]
    if name == "ga":
        return -token_mean(pi, "forget")
    if name == "finetune":
        return token_mean(pi, "retain")
    if name == "graddiff":
        return token_mean(pi, "retain") - token_mean(pi, "forget")
    if name == "kl":
        return kl_mean(pi, ref, "retain") - token_mean(pi, "forget")
    if name == "scrub":
        return -kl_mean(pi, ref, "forget")
    if name == "idkpo":
        terms = [
            log_sigmoid(0.1 * (logp(pi, *won) - rw) - 0.1 * (logp(pi, *lost) - rl))
            for won, lost, rw, rl in zip(pairs("refusal"), forget, ref_refusal, ref_forget)
        ]
        return -2 / 0.1 * sum(terms) / 3 + token_mean(pi, "retain")
    if name in ("npo", "npo-retain"):
        # 2/beta log(1 + (pi / ref)^beta), the other form in which the paper writes it.
        ratios = [(logp(pi, *pair) - r).exp() for pair, r in zip(forget, ref_forget)]
        loss = 2 / 0.1 * sum((1 + ratio**0.1).log() for ratio in ratios) / 3
        return loss + (token_mean(pi, "retain") if name == "npo-retain" else 0)
    if name == "simnpo":
        terms = [log_sigmoid(-2.5 / len(y) * logp(pi, x, y) - 0.0) for x, y in forget]
        return -2 / 2.5 * sum(terms) / 3 + token_mean(pi, "retain")
    if name == "undial":
        total = 0
        for x, y in forget:
            z = logits_of(ref, x, y).detach().clone()
            for t, token in enumerate(y):
                z[t, token] -= 10
            total = total - (z.softmax(-1) * logits_of(pi, x, y).log_softmax(-1)).sum()
        return total / n_forget
    if name == "rmu":
        states = {}
        for label, model in (("pi", pi), ("ref", ref)):
            for part in ("forget", "retain"):
                rows = []
                for x, y in pairs(part):
                    caught = []
                    hook = model.h[0].register_forward_hook(
                        lambda module, args, output: caught.append(output)
                    )
                    model(torch.tensor([x + y]))
                    hook.remove()
                    rows += [caught[0][0, t] for t in range(len(x) - 1, len(x) + len(y) - 1)]
                states[label, part] = rows
        u = torch.rand(8, generator=torch.Generator().manual_seed(0)).double()
        u = u / (u**2).sum().sqrt()
        away = [
            ((h - 5 * (r.detach() ** 2).sum().sqrt() * u) ** 2).mean()
            for h, r in zip(states["pi", "forget"], states["ref", "forget"])
        ]
        near = [
            ((h - r.detach()) ** 2).mean()
            for h, r in zip(states["pi", "retain"], states["ref", "retain"])
        ]
        return sum(away) / len(away) + 10 * sum(near) / len(near)


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_equal_the_formula(name, models):
    pi, ref = models
    batches = Batches(*(packed(PAIRS[part]) for part in ("forget", "refusal", "retain")))
    loss = METHODS[name].loss(pi, ref, batches)
    expected = formula(name, pi, ref)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    got, want = (
        torch.autograd.grad(x, list(pi.parameters()), allow_unused=True) for x in (loss, expected)
    )
    assert all(p.grad is None for p in ref.parameters())
    largest = 0
    for a, b in zip(got, want):
        a, b = (torch.zeros(1, dtype=torch.double) if g is None else g for g in (a, b))
        assert torch.allclose(a, b, atol=1e-9)
        largest = max(largest, b.abs().max().item())
    assert largest > 1e-3


def test_scrub_goes_down_on_the_retain_set_in_every_second_pass(models):
    pi, ref = models
    batches = Batches(*(packed(PAIRS[part]) for part in ("forget", "refusal", "retain")))
    expected = 0.99 * token_mean(pi, "retain") + 0.001 * kl_mean(pi, ref, "retain")
    for n_passes in (1, 3):
        loss = baselines.scrub(pi, ref, replace(batches, n_passes=n_passes))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    up = baselines.scrub(pi, ref, replace(batches, n_passes=2))
    assert up.item() == pytest.approx(-kl_mean(pi, ref, "forget").item(), rel=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_prompt_and_padding_do_not_count(name, models):
    """Longer padding changes nothing."""
    pi, ref = models
    batches = Batches(*(packed(PAIRS[part]) for part in ("forget", "refusal", "retain")))

    def widen(batch):
        return Batch(
            idx=F.pad(batch.idx, (0, 3), value=5),
            response=F.pad(batch.response, (0, 3), value=5),
            before=F.pad(batch.before, (0, 3), value=1),
            mask=F.pad(batch.mask, (0, 3)),
        )

    wider = Batches(*map(widen, (batches.forget, batches.refusal, batches.retain)))
    loss = METHODS[name].loss
    assert loss(pi, ref, batches).item() == pytest.approx(loss(pi, ref, wider).item(), rel=1e-9)


def test_the_loop_takes_every_forget_row_once_an_epoch_and_leaves_the_original_alone(models):
    policy, seen, originals, passes = models[0].float(), [], [], []

    def spy(policy, original, batches):
        seen.append(batches.forget.idx[:, 0].tolist())
        passes.append(batches.n_passes)
        originals.append(original.wte.weight.clone())
        return baselines.ga(policy, original, batches)

    start = policy.wte.weight.clone()
    forget, retain = [([i], [15, 16]) for i in range(10)], [([11], [12])] * 5
    task = Task([], retain, 8, eos_id=18, references=forget, refusals=[[17]])
    log = list(LossMethod(spy, lr=0.01, passes=2)(policy, task, Config(batch_size=4)))
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    assert passes == [0, 0, 0, 1, 1, 1]
    assert (
        sorted(sum(seen[:3], [])) == sorted(sum(seen[3:], [])) == list(range(10))
        and seen[:3] != seen[3:]
    )
    assert all(torch.equal(original, start) for original in originals) and not torch.equal(
        policy.wte.weight, start
    )


def test_settings_are_those_that_the_search_chose():
    found = json.loads((ROOT / "data/authors/search.json").read_text())["methods"]
    assert found.keys() == STAGES.keys()
    for name, method in METHODS.items():
        grid = found[name]["grid"]
        totals = [sum(cell["scores"]) for cell in grid]
        assert len(grid) >= 9 and all(len(cell["scores"]) == 3 for cell in grid)
        chosen = {"--baseline-lr": method.lr, "--baseline-passes": method.passes}
        assert chosen == found[name]["chosen"] == grid[totals.index(max(totals))]["flags"], name
    assert newton.LR == found["scrn"]["chosen"]["--baseline-lr"]
    defaults = parse([], "")
    for name in ("dareu", "reinforce", "dareu_plus"):
        chosen, grid = found[name]["chosen"], found[name]["grid"]
        assert len([cell for cell in grid if cell["flags"] == chosen]) == 1 and len(grid) >= 3
        for flag, value in chosen.items():
            if flag != "--algorithm":
                assert getattr(defaults, flag[2:].replace("-", "_")) == value, f"{name}: {flag}"


def test_refusals_name_nobody():
    assert len(set(REFUSALS)) == len(REFUSALS) >= 5


def test_a_method_of_ones_own_as_the_readme_has_it(toy, tmp_path):
    example = next(
        code
        for code in re.findall(
            r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
        )
        if "METHODS" in code
    )
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    fast = "--epochs 1 --classifier-epochs 1 --methods relabel"
    fast = [
        *fast.split(),
        *("--baseline-steps", "2", "--device", "cpu"),
        *("--data", str(toy), "--out", str(tmp_path / "run")),
    ]
    (tmp_path / "mine.py").write_text(example)
    process = subprocess.run(
        [sys.executable, tmp_path / "mine.py", *fast],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    models = json.loads((tmp_path / "run" / "results.json").read_text())["models"]
    assert (
        set(models) == {"original", "retrained", "relabel"}
        and models["relabel"] != models["original"]
    )
