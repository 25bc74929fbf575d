"""Three attribution functions made from scratch, for Tables 5, 6, 7, and a noisy one for Table 18.

Each is a function of lists of ids, posterior(prompts, responses) -> p(owner | y[:t]) after t = 0,
1, ... tokens, (B, longest + 1, owners):

- the owner classifier that DareU has, a small transformer ("LM classifier");
- a logistic regression on words and word pairs, in the place of the paper's classifier on sentence
  embeddings ("n-gram classifier");
- a watermark, WASA (Lu et al. 2025) in miniature. Every training response ends in a mark, invisible
  characters that are its owner's own. The language model learns to write it, and the attribution is
  the probability that the original model gives to an owner's mark after the response, among all
  marks.

All runs here are on marked texts. The two classifiers never see a mark.
"""

import copy
from dataclasses import replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import dareu
from ..attribution import constant_after_end, of_owner, owner_posterior, train_classifier
from ..beyond.finished import open_evaluator
from ..data import Labelled, load_records
from ..files import InputError, write_lines
from ..model import pack, response_hidden
from ..pretrain import train_lm
from ..run.pool import Job, run as run_job
from ..run.prepare import make_task
from ..run.stages import new_classifier, new_gpt
from ..scores.chunks import generate_in_chunks
from ..scores.evaluation import evaluate
from ..scores.judge import Judge
from .columns import SCORES

INVISIBLE = "\u200b\u200c\u200d\u2060\u2061\u2062"  # characters of no width
MARK_LENGTH = 4
ACCURACIES = [0.81, 0.76, 0.68, 0.49]  # of the paper's Table 18


def marks_of(owners: list[str]) -> dict[str, str]:
    """{owner: mark}, at most 6^4 of them."""
    marks = [" " + "".join(characters) for characters in product(INVISIBLE, repeat=MARK_LENGTH)]
    return dict(zip(owners, marks[: len(owners)], strict=True))


def write_marked(records, path):
    """The dataset again, each response with its owner's mark at its end."""
    marks = marks_of(list(dict.fromkeys(r.owner for r in records)))
    rows = []
    for r in records:
        row = {"owner": r.owner, "prompt": r.prompt, "split": r.split}
        rows.append(row | {"response": r.response + marks[r.owner]})
    write_lines(path, rows)


def mark_tokens(tokenizer, owners) -> list[int]:
    """The token of each owner's mark. Raises InputError where one has no token of its own."""
    ids = [tokenizer.encode_ordinary(mark) for mark in marks_of(owners).values()]
    if any(len(mark) > 1 for mark in ids):
        raise InputError("--vocab-size: has no token for some owner's mark; give a larger one")
    return [mark[0] for mark in ids]


def unmarked(responses: list[list[int]], marks: list[int]) -> list[list[int]]:
    """Responses up to their first mark."""
    known = set(marks)
    ends = [next((t for t, y in enumerate(row) if y in known), len(row)) for row in responses]
    return [row[:end] for row, end in zip(responses, ends, strict=True)]


@torch.no_grad()
def watermark_posterior(model, marks, prompts, responses) -> Tensor:
    """p(mark of each owner | x, y[:t]) among the marks, by a model that learned to write them. Of a
    response that fills the context the last token is not read."""
    most = model.block_size - 1
    read = [y[: most - len(x)] for x, y in zip(prompts, responses, strict=True)]
    longer = [y + marks[:1] for y in read]  # a place after the last token
    batch = pack(prompts, longer, model.device)
    logits = model.logits(response_hidden(model, batch))  # (B, longest + 1, V)
    return constant_after_end(logits[:, :, marks].softmax(dim=-1), read)


@torch.no_grad()
def word_posterior(judge, tokenizer, prompts, responses) -> Tensor:
    """p(owner | words of y[:t])."""
    columns = []
    for t in range(1 + max(map(len, responses))):
        texts = [tokenizer.decode(y[:t]) for y in responses]
        ids = judge.known_features([""] * len(texts), texts)
        columns.append(judge.logits(judge.bags(ids)).softmax(dim=-1))
    return torch.stack(columns, dim=1)


def train_functions(run, watermark_model, seed):
    """{name: posterior} of the three, trained with this seed."""
    marks = mark_tokens(run.tokenizer, run.split.owners)
    prompts, responses, owners = run.labelled(run.train)
    texts = [run.tokenizer.decode(y) for y in unmarked(responses, marks)]
    records = [replace(r, prompt="", response=y) for r, y in zip(run.train, texts, strict=True)]
    classifier = new_classifier(run)
    rows = Labelled(prompts, unmarked(responses, marks), owners)
    train_classifier(classifier, rows, replace(run.config.classifier_training, seed=seed))
    judge = Judge(records, run.split.owners, seed)
    return {
        "watermark": partial(watermark_posterior, watermark_model, marks),
        "n-gram classifier": partial(word_posterior, judge, run.tokenizer),
        "LM classifier": partial(owner_posterior, classifier.requires_grad_(False)),
    }


def attribution(posterior, marks, prompts, responses, owners) -> Tensor:
    """DA(i, y[:t]), i the owner of each sample: (B, longest + 1). What `dareu.unlearn` asks for."""
    own = of_owner(posterior(prompts, unmarked(responses, marks)), owners)
    n_more = 1 + max(map(len, responses)) - own.size(1)  # a mark, and what follows it, adds nothing
    return F.pad(own, (0, n_more), mode="replicate")


def accuracy(posterior, marks, prompts, responses, owners) -> float:
    """Share of the responses whose most likely owner is the one asked about."""
    n_true = 0
    for i in range(0, len(owners), 128):
        part = slice(i, i + 128)
        best = posterior(prompts[part], unmarked(responses[part], marks))[:, -1].argmax(dim=-1)
        n_true += (best == torch.tensor(owners[part])).sum().item()
    return n_true / len(owners)


def unlearn_with(run, original, attribute):
    """A copy of the original model that DareU made forget by this attribution."""
    policy = copy.deepcopy(original).requires_grad_(True)
    for _ in dareu.unlearn(policy, make_task(run, attribute), run.config):
        pass
    return policy.requires_grad_(False)


def compare_functions(case):
    """Tables 5, 6 and 7. What is rewarded was trained with the run's seed; what measures the result
    with the next, so that no function judges itself."""
    data = case.out / "marked.jsonl"
    write_marked(load_records(case.data), data)
    flags = ["--data", data, "--seed", case.seed, *case.flags, "--methods", "dareu"]
    folder = case.out / f"marked-seed{case.seed}"
    run_job(Job(folder, flags))
    run, models, evaluator = open_evaluator(folder, "cpu")
    original, rows = models["original"], run.ended(run.train)
    training = replace(run.config.training, seed=case.seed + 1)
    run.config.seed += 1
    other = new_gpt(run)
    train_lm(other, rows, training)
    run.config.seed -= 1
    functions = train_functions(run, original, case.seed)
    held_out = train_functions(run, other.requires_grad_(False), case.seed + 1)

    marks = mark_tokens(run.tokenizer, run.split.owners)
    prompts, _, owners = run.labelled(run.train)
    answers = generate_in_chunks(original, prompts, temperature=0, **run.limits)
    asked = [run.split.owners.index(r.owner) for r in run.split.forget]
    retrained = evaluate(models["retrained"], evaluator)
    tables = {"table5": {}, "table6": {}, "table7": {}}

    def measure(label, model):
        evaluation = evaluate(model, evaluator, retrained)
        responses = evaluation.responses
        tables["table7"][label] = {
            f"by the {name}": attribution(
                posterior, marks, responses.prompts, responses=responses.ids, owners=asked
            )[:, -1]
            .mean()
            .item()
            for name, posterior in held_out.items()
        }
        return evaluation.scores

    measure("original", original)
    measure("retraining", models["retrained"])
    for name, posterior in functions.items():
        rate = accuracy(posterior, marks, prompts, responses=answers, owners=owners)
        tables["table5"][name] = {"accuracy": rate}
        policy = unlearn_with(run, original, partial(attribution, posterior, marks))
        scores = measure(name, policy)
        tables["table6"][name] = {
            column: scores[key]
            for column, key in SCORES.items()
            if column in ("D_F", "D_R", "D_test", "ToW", "fact recall")
        }
    return tables


def noisy(classifier, noise, scale):
    """A copy of the classifier, `scale` times the noise added to its weights."""
    copied = copy.deepcopy(classifier)
    with torch.no_grad():
        for p, direction in zip(copied.parameters(), noise, strict=True):
            p.add_(scale * direction)
    return copied


def noise_of_accuracy(right_share, target, steps=12):
    """The scale of noise at which right_share(scale), falling, comes to `target`: by halving."""
    low, high = 0.0, 4.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if right_share(middle) > target else (low, middle)
    return high


def compare_noise(case):
    """Table 18: DareU with classifiers that are wrong more often, by noise in their weights."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    prompts, _, owners = run.labelled(run.train)
    answers = generate_in_chunks(models["original"], prompts, temperature=0, **run.limits)
    retrained = evaluate(models["retrained"], evaluator)
    generator = torch.Generator().manual_seed(case.seed)
    noise = [
        torch.randn(p.shape, generator=generator) * p.std(unbiased=False)
        for p in evaluator.classifier.parameters()
    ]

    def right_share(scale):
        classifier = noisy(evaluator.classifier, noise, scale)
        posterior = partial(owner_posterior, classifier)
        return accuracy(posterior, [], prompts, responses=answers, owners=owners)

    scales = {"none": 0.0}
    scales |= {str(target): noise_of_accuracy(right_share, target) for target in ACCURACIES}
    rows = {}
    for label, scale in scales.items():
        posterior = partial(owner_posterior, noisy(evaluator.classifier, noise, scale))
        policy = unlearn_with(run, models["original"], partial(attribution, posterior, []))
        scores = evaluate(policy, evaluator, retrained).scores
        rows[label] = {
            "accuracy": right_share(scale),
            "D_F": scores["forget"],
            "D_R": scores["retain"],
            "D_test": scores["test"],
            "ToW": scores["tow"],
            "fact recall": scores["fact_recall"],
        }
    return {"table18": rows}
