"""Is zero attribution a better objective than a low likelihood? Table 1 and Figures 2, 3, 4, 5, 8.

Each function takes a Case and returns {table: {label: {column: value}}} for its seed, and "points"
or "example" where there is more to draw or to print.
"""

import copy
import random
from dataclasses import replace
from statistics import mean, pstdev

import torch

from .. import baselines, dareu
from ..attribution import prefix_attribution
from ..beyond.finished import open_evaluator
from ..data import response_text
from ..files import read_lines
from ..metrics import mean_rouge
from ..model import with_end
from ..run.folder import SAMPLES
from ..run.prepare import make_task
from ..scores.chunks import response_log_probs
from ..scores.evaluation import owner_attributions, respond
from ..scores.likelihood import token_log_probs

COLLAPSE_LR, COLLAPSE_STEPS = 4e-4, 64  # of gradient ascent, far beyond what is good for a model
MASKED = list(range(11))  # words


def collapsed_model(run, original):
    """The original model after far too much gradient ascent: it talks gibberish."""
    policy = copy.deepcopy(original).requires_grad_(True)
    config = replace(run.config, baseline_lr=COLLAPSE_LR, baseline_steps=COLLAPSE_STEPS)
    for _ in baselines.METHODS["ga"](policy, make_task(run), config):
        pass
    return policy.requires_grad_(False)


def compare_objectives(case):
    """Table 1: attribution of three models' answers, and their log-likelihood under the original;
    and for how many forget queries each objective puts the retrained model's answer first."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    models = {"original": models["original"], "retraining": models["retrained"]}
    models["collapsed"] = collapsed_model(run, models["original"])
    forget = run.split.forget
    rows, by_query = {}, {}
    example = [f"prompt: {forget[0].prompt}", f"reference: {forget[0].response}"]
    for name, model in models.items():
        responses = respond(model, forget, evaluator)
        ended = with_end(model, responses.prompts, responses.ids, **run.limits)
        under_original = response_log_probs(models["original"], responses.prompts, ended)
        by_query[name] = {
            "attribution": owner_attributions(responses, forget, evaluator),
            "log-likelihood": [row.mean().item() for row in under_original],
            "of the reference": token_log_probs(model, run.tokenizer, forget).tolist(),
        }
        rows[name] = {column: mean(values) for column, values in by_query[name].items()}
        first = ", ".join(f"{c} {values[0]:.4f}" for c, values in by_query[name].items())
        example.append(f"{name}: {responses.texts[0][:120]} ({first})")
    shares = {}
    for column in by_query["original"]:
        pairs = zip(by_query["retraining"][column], by_query["collapsed"][column], strict=True)
        shares[column] = mean(float(right < broken) for right, broken in pairs)
    rows["share of queries where the retrained model's is lower than the collapsed one's"] = shares
    return {"table1": rows, "example": example}


def log_likelihoods(case):
    """Figure 2: log-likelihood a token of the forget set's references, sample by sample."""
    run, models, _ = open_evaluator(case.folders["main"], "cpu")
    names = {"original": "original", "retraining": "retrained"}
    names |= {"DareU": "dareu", "DareU+": "dareu_plus"}
    points = {
        label: token_log_probs(models[name], run.tokenizer, run.split.forget).tolist()
        for label, name in names.items()
    }
    rows = {
        label: {"mean": mean(x), "standard deviation": pstdev(x)} for label, x in points.items()
    }
    return {"fig2": rows, "points": points}


def one_reward(case):
    """Figure 3: how the token rewards of one response come about, slice by slice."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    forget, c = run.split.forget[:1], run.config
    responses = respond(models["original"], forget, evaluator)
    prompts, ids = responses.prompts, responses.ids
    y = with_end(models["original"], prompts, ids, **run.limits)[0]
    owners = [run.split.owners.index(forget[0].owner)]
    attribution = prefix_attribution(evaluator.classifier, prompts, ids, owners)
    attribution = torch.cat([attribution, attribution[:, -1:]], dim=1)[:, : len(y) + 1]
    scores = dareu.transform(attribution, c.c_seg)[0]
    zero, length = torch.zeros(1, len(y)), torch.tensor([len(y)])
    rewards = dareu.token_rewards(attribution, zero, length, slices=c.slices, kl_coef=0.0)[0]
    rows = {}
    for t, (token, end) in enumerate(zip(y, dareu.slice_ends(len(y), c.slices), strict=True)):
        text = "end" if token == run.limits["eos_id"] else run.tokenizer.decode([token]).strip()
        rows[f"{t + 1} {text}"] = {
            "slice ends at": float(end),
            "DA after it": attribution[0, end].item(),
            "chi": scores[end].item(),
            "reward": rewards[t].item(),
        }
    return {"fig3": rows, "example": [f"prompt: {forget[0].prompt}"]}


def mask_words(case):
    """Figure 4: attribution and ROUGE of the original model's and of DareU's answers, k words left
    out."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    forget, rng = run.split.forget, random.Random(case.seed)
    rows = {str(k): {} for k in MASKED}
    for name, suffix in (("original", ""), ("dareu", ", DareU")):
        responses = respond(models[name], forget, evaluator)
        split = [text.split() for text in responses.texts]
        orders = [rng.sample(range(len(parts)), len(parts)) for parts in split]
        for k in MASKED:
            texts = [
                " ".join(word for i, word in enumerate(parts) if i not in order[:k])
                for parts, order in zip(split, orders, strict=True)
            ]
            responses.ids = [run.tokenizer.encode_ordinary(response_text(text)) for text in texts]
            attributed = owner_attributions(responses, forget, evaluator)
            rows[str(k)] |= {
                f"attribution{suffix}": mean(attributed),
                f"ROUGE{suffix}": mean_rouge(texts, forget),
            }
    return {"fig4": rows}


def transforms(case):
    """Figure 5: chi for several C_seg."""
    b = torch.linspace(0, 1, 21)
    columns = {f"C_seg {c}": dareu.transform(b, c_seg=c).tolist() for c in (0.5, 1.05, 2, 9.2)}
    rows = {f"{b[i]:.2f}": {name: values[i] for name, values in columns.items()} for i in range(21)}
    return {"fig5": rows}


def worst_answers(case):
    """Figure 8: of each model the answer to a forget prompt that is least like language, by the
    perplexity that it has under the retrained model."""
    samples = read_lines(case.folders["main"] / SAMPLES)
    rows, example = {}, []
    for name in [key for key in samples[0] if key not in ("prompt", "reference")]:
        answers = [row[name] for row in samples]
        worst = max(answers, key=lambda answer: answer["perplexity"] or 1.0)
        rows[name] = {"perplexity of the worst answer": worst["perplexity"] or 1.0}
        example.append(f"{name}: {' '.join(worst['response'].split())[:160]}")
    return {"fig8": rows, "example": example}
