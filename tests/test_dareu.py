"""Algorithm 1 against loops over its formulas, and against what its lines promise."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from minidareu import baselines, dareu, newton, rl
from minidareu.beyond import dareu_plus
from minidareu.run.flags import Config
from minidareu.data import Task
from minidareu.dareu import design_rewards, slice_ends, token_rewards, transform
from minidareu.model import GPT, GPTConfig, chosen, descend, log_probs, pack, response_hidden

EOS = 11
FORGET = [([1, 2], 0), ([3], 1), ([4, 5, 6], 0), ([7], 1)]
RETAIN = [([8], [9, 10]), ([8, 2], [9]), ([3, 8], [10, 10, 1])] * 3
LIMITS = {"max_new_tokens": 6, "eos_id": EOS}


def chi(b, c_seg=1.05, eps=1e-4):
    """The formula, for a number."""
    b = min(max(b, eps), 1 - eps)
    return min(max(math.log(1 - b) / c_seg, -1), 0)


def tiny(seed=0, std=0.3):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(12, 16, 1, 2, 16))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    return model


def config(**changes):
    settings = {"rl_lr": 0.01, "forget_batch": 2, "retain_batch": 4, "ppo_steps": 3}
    settings |= {"data_epochs": 1, "renew_old_policy": "epoch"}
    return replace(Config(), **{**settings, **changes})


def even(prompts, responses, owners=None):
    """An attribution: the share of the tokens so far that are even; 0 before the first."""
    longest = max(map(len, responses))
    out = torch.zeros(len(responses), longest + 1)
    for row, y in zip(out, responses, strict=True):
        for t in range(1, longest + 1):
            shown = y[:t]
            row[t] = sum(token % 2 == 0 for token in shown) / len(shown) if shown else 0
    return out


def task(attribute=even, forget=FORGET, **more):
    return Task(forget, RETAIN, attribute=attribute, **LIMITS, **more)


def unlearn(policy, attribute=even, **changes):
    return dareu.unlearn(policy, task(attribute), config(**changes))


def test_chi_equals_the_formula():
    b = torch.linspace(0, 1, 401)
    for c_seg, eps in ((1.05, 1e-4), (0.5, 1e-4), (3.0, 0.2)):
        expected = torch.tensor([chi(x, c_seg, eps) for x in b.tolist()])
        assert torch.allclose(transform(b, c_seg, eps), expected, atol=1e-6)
    assert transform(torch.tensor(1 - math.exp(-1.05))).item() == pytest.approx(-1, abs=1e-5)
    assert transform(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, -1], abs=1e-3)


@pytest.mark.parametrize("slices", [1, 2, 3, 5, 15, 40])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 15, 16, 31])
def test_slice_ends_equal_the_definition(length, slices):
    ends = slice_ends(length, slices)
    kappa = math.ceil(length / slices)
    assert ends == [min(length, math.ceil(t / kappa) * kappa) for t in range(1, length + 1)]
    assert len(set(ends)) <= slices and (not ends or ends[-1] == length)
    if slices >= length:
        assert ends == list(range(1, length + 1)), "every token is its own slice"


@pytest.mark.parametrize("slices", [1, 2, 4, 7, 15, 99])
def test_token_rewards_equal_a_double_loop(slices):
    torch.manual_seed(slices)
    lengths = torch.tensor([9, 1, 4, 0, 7])
    attribution, kl = torch.rand(5, 10), torch.rand(5, 9)
    rewards = token_rewards(attribution, kl, lengths, slices, kl_coef=0.3, c_seg=0.9)
    for b, T in enumerate(lengths.tolist()):
        kappa = math.ceil(T / slices)
        for t in range(9):
            if t >= T:
                assert rewards[b, t] == 0
                continue
            total = 0.0
            for t_ in range(1, t + 2):
                end = min(T, math.ceil(t_ / kappa) * kappa)
                total += chi(attribution[b, end].item(), 0.9)
            expected = total / (t + 1) - 0.3 * kl[b, t].item()
            assert rewards[b, t].item() == pytest.approx(expected, abs=1e-5)


def test_the_designs_of_the_reward():
    lengths = torch.tensor([3, 1])
    attribution = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.9, 0.3, 0.0, 0.0]])
    kl = torch.full((2, 3), 0.1)
    per_token = token_rewards(attribution, kl, lengths, 3, kl_coef=1.0)
    scores = [chi(0.1), chi(0.5), chi(0.2)]
    means = [sum(scores[: t + 1]) / (t + 1) - 0.1 for t in range(3)]
    assert per_token[0].tolist() == pytest.approx(means, abs=1e-5)
    batch = pack([[1], [1]], [[2, 3, 4], [5]], "cpu")
    whole = design_rewards(attribution, kl, batch, config(reward="sequence", kl_coef=1.0))
    assert whole[0].tolist() == pytest.approx([-0.1, -0.1, chi(0.2) - 0.1], abs=1e-5)
    assert whole[1].tolist() == pytest.approx([chi(0.3) - 0.1, 0, 0], abs=1e-5)


def first_rollout(policy, old_policy, config, attribute=even):
    """A rollout by a learner whose V is not zero, held to `old_policy` as if it were pi_N."""
    learner = dareu.make_learner(policy, config)
    learner.original = old_policy
    torch.manual_seed(1)
    torch.nn.init.normal_(learner.value_head.weight)
    return dareu.rollout(learner, old_policy, task(attribute), FORGET), learner


def test_a_rollout_holds_what_the_formulas_say():
    policy, old_policy = tiny(0), tiny(1)
    c = config(whiten="none", gamma=0.9, gae_lambda=1.0, kl_coef=0.2, slices=2)
    ro, learner = first_rollout(policy, old_policy, c)
    logp = (log_probs(policy, ro.batch, 0.8), log_probs(old_policy, ro.batch, 0.8))
    divergence = (logp[0].exp() * (logp[0] - logp[1])).sum(-1)
    with torch.no_grad():
        values = learner.value_head(response_hidden(policy, ro.batch)).squeeze(2)
    for b in range(4):
        length = int(ro.batch.mask[b].sum())
        tokens = ro.batch.response[b, :length].tolist()
        said = [t for t in tokens if t != EOS]
        a = [0.0] + [sum(t % 2 == 0 for t in said[:n]) / n for n in range(1, len(said) + 1)]
        a += [a[-1]] * (length + 1 - len(a))  # the end of text adds nothing
        kappa = math.ceil(length / 2)
        rewards, total = [], 0.0
        for t in range(length):
            total += chi(a[min(length, math.ceil((t + 1) / kappa) * kappa)])
            rewards.append(total / (t + 1) - 0.2 * divergence[b, t].item())
        for t in range(length):
            R = sum(0.9**j * rewards[t + j] for j in range(length - t))
            assert ro.returns[b, t].item() == pytest.approx(R, abs=1e-4)
            assert ro.advantages[b, t].item() == pytest.approx(R - values[b, t].item(), abs=1e-4)
    assert torch.allclose(ro.old_logp, chosen(logp[1], ro.batch), atol=1e-5)


def test_the_kl_is_to_the_original_model_or_to_pi_old():
    """Line 15 with three different models: pi, pi_old, pi_N."""
    policy, old_policy, original = tiny(0), tiny(1), tiny(2)
    for reference, model in (("original", original), ("old", old_policy)):
        learner = dareu.make_learner(policy, config(kl_reference=reference))
        learner.original = original
        ro = dareu.rollout(learner, old_policy, task(), FORGET)
        p, q = log_probs(policy, ro.batch, 0.8), log_probs(model, ro.batch, 0.8)
        expected = (p.exp() * (p - q)).sum(dim=-1) * ro.batch.mask
        assert torch.allclose(ro.kl, expected, atol=1e-5) and expected.max() > 0.01


def test_at_the_first_step_every_ratio_is_1_and_the_kl_is_0(monkeypatch):
    monkeypatch.setattr(dareu, "VALUE_COEF", 0.0)
    policy = tiny()
    ro, learner = first_rollout(policy, policy.snapshot(), config())
    assert dareu.rollout_figures(ro)["kl"] == pytest.approx(0, abs=1e-6)
    logp = chosen(log_probs(policy, ro.batch, 0.8), ro.batch)
    assert torch.allclose((logp - ro.old_logp).exp(), torch.ones_like(logp), atol=1e-5)
    loss, figures = dareu.policy_loss(learner, ro)
    assert figures["clip_fraction"] == 0 and figures["approximate_kl"] == pytest.approx(0, abs=1e-6)
    rows = zip(ro.advantages, ro.batch.mask > 0, strict=True)
    by_response = [row[inside].mean().item() for row, inside in rows]
    assert loss.item() == pytest.approx(-sum(by_response) / len(by_response), abs=1e-5)


def test_pi_old_is_the_original_model_for_one_data_epoch(monkeypatch):
    seen = []
    plain = dareu.rollout

    def spy(learner, old_policy, *rest, **more):
        seen.append((learner.policy.wte.weight.detach().clone(), old_policy.wte.weight.clone()))
        return plain(learner, old_policy, *rest, **more)

    monkeypatch.setattr(dareu, "rollout", spy)
    policy = tiny()
    start = policy.wte.weight.detach().clone()
    list(unlearn(policy, data_epochs=2))
    assert len(seen) == 4, "two batches in each of two data epochs"
    assert torch.equal(seen[0][1], start) and torch.equal(seen[1][1], start)
    assert not torch.equal(seen[1][0], start), "the policy itself has moved by then"
    assert torch.equal(seen[2][1], seen[2][0]) and torch.equal(seen[3][1], seen[2][0])
    seen.clear()
    list(unlearn(tiny(), renew_old_policy="batch"))
    assert torch.equal(seen[1][1], seen[1][0]) and not torch.equal(seen[1][1], start)


@pytest.mark.parametrize("updates", ["alternate", "joint"])
def test_the_original_model_stays_as_it_was(monkeypatch, updates):
    held = []
    plain = GPT.snapshot
    monkeypatch.setattr(GPT, "snapshot", lambda model: held.append(plain(model)) or held[-1])
    policy = tiny()
    before = [p.detach().clone() for p in policy.parameters()]
    log = list(unlearn(policy, retain_updates=updates))
    assert len(log) == 2 * 3, "two batches, three updates on each"
    assert all(torch.equal(a, b) for a, b in zip(before, held[0].parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert log[0]["distillation"] == (
        pytest.approx(0, abs=1e-6) if updates == "joint" else log[0]["distillation"]
    )
    assert log[-1]["distillation"] > 0


def test_alternate_updates_distil_after_each_forget_update():
    """The forget update has moved the policy when L_dis is computed; in a joint one it has not."""
    first = {name: next(unlearn(tiny(), retain_updates=name)) for name in ("alternate", "joint")}
    assert first["joint"]["distillation"] == pytest.approx(0, abs=1e-6)
    assert first["alternate"]["distillation"] > 1e-5


def test_distillation_is_the_mean_kl_of_tokens_then_of_responses_one_by_one():
    policy, original = tiny(0), tiny(1)
    kept = dareu.retain_batch(original, RETAIN[:3], task(), config())
    means = []
    for prompt, response in RETAIN[:3]:
        ids, terms = [*prompt, *response, EOS], []
        for t in range(len(prompt), len(ids)):
            p = original(torch.tensor([ids[:t]]))[0, -1].softmax(dim=-1)
            q = policy(torch.tensor([ids[:t]]))[0, -1].softmax(dim=-1)
            terms.append((p * (p / q).log()).sum().item())
        means.append(sum(terms) / len(terms))
    loss = dareu.distillation_loss(policy, kept)
    assert loss.item() == pytest.approx(sum(means) / len(means), rel=1e-4)


def test_the_gradient_of_the_objective_by_finite_differences(monkeypatch):
    """d/dtheta of -(J - lambda_dis L_dis), V's loss left out, away from ratio 1."""
    monkeypatch.setattr(dareu, "VALUE_COEF", 0.0)
    policy, old_policy = tiny(0).double(), tiny(1).double()
    learner = dareu.make_learner(policy, config())
    learner.value_head.double()
    torch.manual_seed(1)
    ro = dareu.rollout(learner, old_policy, task(), FORGET)
    kept = dareu.retain_batch(old_policy, RETAIN[:3], task(), config())

    def objective():
        loss, _ = dareu.policy_loss(learner, ro)
        return loss + 2.0 * dareu.distillation_loss(policy, kept)

    objective().backward()
    rng = torch.Generator().manual_seed(0)
    checked = 0
    for p in policy.parameters():
        flat, gradient = p.data.view(-1), p.grad.view(-1)
        for i in torch.randint(len(flat), (4,), generator=rng).tolist():
            value, h = flat[i].item(), 1e-5
            flat[i] = value + h
            above = objective().item()
            flat[i] = value - h
            below = objective().item()
            flat[i] = value
            assert gradient[i].item() == pytest.approx((above - below) / (2 * h), abs=1e-5)
            checked += abs(gradient[i].item()) > 1e-4
    assert checked > 20


def test_vs_loss_trains_the_head_alone(monkeypatch):
    """No gradient of V reaches the policy, however large V's loss is; and it learns the returns."""
    monkeypatch.setattr(dareu, "VALUE_COEF", 1.0)
    steps = {}
    for shift in (0.0, 100.0):
        policy = tiny()
        ro, learner = first_rollout(policy, policy.snapshot(), config())
        ro.returns += shift * ro.batch.mask
        learner.optimizer = torch.optim.SGD(
            [{"params": g["params"], "lr": 1.0} for g in learner.optimizer.param_groups]
        )
        head = learner.value_head.weight.clone()
        descend(learner.optimizer, dareu.policy_loss(learner, ro)[0])
        steps[shift] = policy.h[0].mlp[0].weight - tiny().h[0].mlp[0].weight
        assert not torch.equal(head, learner.value_head.weight)
    assert torch.equal(steps[0.0], steps[100.0]) and steps[0.0].abs().max() > 0

    policy = tiny()
    ro, learner = first_rollout(policy, policy.snapshot(), config())
    ro.advantages.zero_()  # so that J says nothing
    start = copy.deepcopy(policy.state_dict())
    hidden = response_hidden(policy, ro.batch)
    before = rl.value_loss(dareu.value(learner, hidden), ro.returns, ro.batch.mask)
    for _ in range(5):
        descend(learner.optimizer, dareu.policy_loss(learner, ro)[0])
    after = rl.value_loss(dareu.value(learner, hidden), ro.returns, ro.batch.mask)
    assert after < before
    assert all(torch.equal(p, start[name]) for name, p in policy.state_dict().items())


def test_as_many_updates_as_the_papers():
    """13 batches of 32 rows, 20 updates on each: about as many, however small D_F is."""
    c = Config(ppo_steps=20, forget_batch=32)

    def n_updates(c, n_prompts):
        n_batches = math.ceil(n_prompts / c.forget_batch)
        return c.epochs_over(n_batches) * n_batches * c.updates_per_batch

    assert n_updates(c, 400) == 260 and c.epochs_over(13) == 1
    assert c.epochs_over(2) == 6 and n_updates(c, 64) == 240
    assert n_updates(replace(c, ppo_steps=5), 64) == 260
    assert n_updates(replace(c, algorithm="reinforce"), 64) == 260
    assert n_updates(replace(c, data_epochs=1), 64) == 40
    assert n_updates(c, 10_000) == 313 * 20, "every prompt once at least"


def test_a_mean_over_the_tokens_of_a_response_and_then_over_responses():
    x, mask = torch.tensor([[1.0, 2.0, 3.0], [10.0, 0, 0]]), torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    assert rl.masked_mean(x, rl.token_weights(mask)).item() == (2 + 10) / 2


def test_what_is_whitened():
    policy, old_policy = tiny(0), tiny(1)
    plain, _ = first_rollout(policy, old_policy, config(whiten="none"))
    advantages, _ = first_rollout(policy, old_policy, config(whiten="advantages"))
    assert torch.allclose(advantages.rewards, plain.rewards)
    assert torch.allclose(
        advantages.advantages, rl.whiten(plain.advantages, plain.batch.mask), atol=1e-4
    )


def test_no_reference_of_the_forget_set_is_ever_given():
    """`forget` holds prompts and owners; the attribution is asked about the policy's responses."""
    asked = []

    def attribute(prompts, responses, owners):
        asked.append((prompts, owners))
        return even(prompts, responses)

    list(unlearn(tiny(), attribute, data_epochs=2))
    epoch = [pair for prompts, owners in asked[:2] for pair in zip(prompts, owners, strict=True)]
    assert sorted(epoch) == sorted(FORGET), "every prompt once a data epoch, with its own owner"


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
@pytest.mark.parametrize("reward", ["slices", "token", "sequence"])
def test_unlearning_lowers_a_known_attribution(algorithm, reward):
    torch.manual_seed(0)
    policy = GPT(GPTConfig(12, 16, 1, 2, 16))  # says everything with about the same probability
    settings = {"data_epochs": 60, "ppo_steps": 4, "forget_batch": 32, "distill_coef": 0.1}
    c = config(algorithm=algorithm, reward=reward, **settings)
    log = list(dareu.unlearn(policy, task(forget=FORGET * 8), c))
    start = sum(row["attribution"] for row in log[:3]) / 3
    assert start > 0.3 and log[-1]["attribution"] < 0.6 * start
    if algorithm == "reinforce":
        assert len(log) == 60 and all(row["clip_fraction"] == 0 for row in log)


def test_without_j_nothing_is_forgotten(monkeypatch):
    """J multiplied by 0, all else as it is: neither V's loss nor L_dis may forget by themselves."""
    monkeypatch.setattr(rl, "ppo_loss", lambda logp, *others, **more: 0 * logp.sum())
    policy = tiny()
    start = copy.deepcopy(policy.state_dict())
    c = {"data_epochs": 10, "rl_lr": 1e-3}
    log = list(unlearn(policy, **c))
    assert len(log) == 60 and log[-1]["value_loss"] > 0
    moved = max((p - start[name]).abs().max().item() for name, p in policy.state_dict().items())
    distances = [log_probs(m, pack([[1, 2]], [[3, 4, 5]], "cpu")) for m in (tiny(), policy)]
    assert rl.kl(*distances).max() < 1e-4, f"the policy has moved by {moved}"


def test_responses_to_the_edge_of_the_context():
    """A prompt that leaves no room gives an empty response, which has no reward and no gradient."""
    policy = tiny()
    forget = [([1] * 16, 0), ([2], 1)]
    log = list(dareu.unlearn(policy, task(forget=forget), config()))
    assert all(math.isfinite(row["reward"]) for row in log)
    assert all(p.isfinite().all() for p in policy.parameters())
    batch = pack([[1] * 16], [[]], "cpu")
    assert batch.mask.shape == (1, 0)


class Bigram(torch.nn.Module):
    """A stand-in policy with what `model.Policy` asks for, and nothing of GPT."""

    width, block_size, device = 12, 16, torch.device("cpu")

    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Parameter(table)

    def hidden(self, idx, depth=1.0):
        return self.table[idx]

    def logits(self, hidden):
        return hidden

    def generate(self, prompts, max_new_tokens, temperature, eos_id):
        texts = [list(prompt) for prompt in prompts]
        for _ in range(max_new_tokens):
            p = (self.table[[text[-1] for text in texts]] / temperature).softmax(dim=-1)
            for text, token in zip(texts, torch.multinomial(p, 1).flatten().tolist(), strict=True):
                text.append(token)
        new = [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
        return [y[: y.index(eos_id)] if eos_id in y else y for y in new]

    def snapshot(self):
        return Bigram(self.table.detach().clone()).requires_grad_(False)


def test_whatever_can_answer_can_be_the_policy():
    """The method asks a policy for nothing but what `model.Policy` names."""
    torch.manual_seed(0)
    policy = Bigram(torch.zeros(12, 12))
    c = config(data_epochs=20, ppo_steps=4, forget_batch=32, distill_coef=0.1, rl_lr=0.05)
    log = list(dareu.unlearn(policy, task(forget=FORGET * 8), c))
    assert log[-1]["attribution"] < 0.6 * log[0]["attribution"]
    plus = replace(c, plus_lr=0.1, plus_updates=60, plus_distill_coef=0.1)
    policy = Bigram(torch.zeros(12, 12))
    added = lambda *texts: even(*texts).clamp(min=0.1)  # of nothing, a tenth
    log = list(dareu_plus.unlearn(policy, task(added, forget=FORGET * 8), plus))
    assert log[-1]["attribution"] < 0.6 * log[0]["attribution"]
    given = task(references=[([1], [2, 3])] * 8, refusals=[[5]])
    c = config(baseline_lr=0.05, baseline_steps=2, batch_size=4)
    for name, method in baselines.METHODS.items():
        policy = Bigram(torch.randn(12, 12))
        before = policy.table.detach().clone()
        assert len(list(method(policy, given, c))) == 2
        assert not torch.equal(before, policy.table), name
    assert len(list(newton.unlearn(policy, given, replace(c, baseline_lr=0.01)))) == 2


def test_the_log_tells_what_a_ppo_run_has_to_tell():
    row = next(unlearn(tiny()))
    assert {"value_loss", "explained_variance", "gradient_norm", "approximate_kl"} <= set(row)
    assert row["value_loss"] > 0 and row["gradient_norm"] > 0
    assert row["explained_variance"] == pytest.approx(0, abs=1e-5), "V begins at zero"
