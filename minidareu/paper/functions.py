"""Two attribution functions made from scratch, for Tables 5, 6, 7, and a noisy one for Table 18.

Each is a function of lists of ids, posterior(prompts, responses) -> p(owner | y[:t]) after t = 0,
1, ... tokens, (B, longest + 1, owners):

- the owner classifier that DareU has, a small transformer ("LM classifier");
- a logistic regression on words and word pairs, in the place of the paper's classifier on sentence
  embeddings ("n-gram classifier").

The paper's third, a watermark (WASA, Lu et al. 2025), is not here: it marks all training texts, and
the language model has to learn the marks.
"""

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from .. import dareu
from ..attribution import of_owner, owner_posterior, train_classifier
from ..beyond.finished import open_evaluator
from ..run.prepare import make_task
from ..run.stages import new_classifier
from ..scores.evaluation import evaluate, respond
from ..scores.judge import Judge
from .columns import SCORES

ACCURACIES = [0.81, 0.76, 0.68, 0.49]  # of the paper's Table 18
COLUMNS = ["D_F", "D_R", "D_test", "ToW", "fact recall"]


@torch.no_grad()
def word_posterior(judge, tokenizer, prompts, responses) -> Tensor:
    """p(owner | words of y[:t])."""
    columns = []
    for t in range(1 + max(map(len, responses))):
        texts = [tokenizer.decode(y[:t]) for y in responses]
        ids = judge.known_features([""] * len(texts), texts)
        columns.append(judge.logits(judge.bags(ids)).softmax(dim=-1))
    return torch.stack(columns, dim=1)


def train_functions(run, seed):
    """{name: posterior} of the two, trained with this seed."""
    judge = Judge([replace(r, prompt="") for r in run.train], run.split.owners, seed)
    classifier = new_classifier(run)
    training = replace(run.config.classifier_training, seed=seed)
    train_classifier(classifier, run.labelled(run.train), training)
    return {
        "n-gram classifier": partial(word_posterior, judge, run.tokenizer),
        "LM classifier": partial(owner_posterior, classifier.requires_grad_(False)),
    }


def attribution(posterior, prompts, responses, owners) -> Tensor:
    """DA(i, y[:t]), i the owner of each sample: (B, longest + 1). What `dareu.unlearn` asks for."""
    return of_owner(posterior(prompts, responses), owners)


def accuracy(posterior, prompts, responses, owners) -> float:
    """Share of the responses whose most likely owner is the one asked about."""
    n_true = 0
    for i in range(0, len(owners), 128):
        part = slice(i, i + 128)
        best = posterior(prompts[part], responses[part])[:, -1].argmax(dim=-1)
        n_true += (best == torch.tensor(owners[part])).sum().item()
    return n_true / len(owners)


def original_answers(run, original, evaluator):
    """The original model's answers to all training prompts, as `accuracy` reads them."""
    answers = respond(original, run.train, evaluator)
    return answers.prompts, answers.ids, run.labelled(run.train).owners


def unlearn_with(run, original, attribute):
    """A copy of the original model that DareU made forget by this attribution."""
    policy = copy.deepcopy(original).requires_grad_(True)
    for _ in dareu.unlearn(policy, make_task(run, attribute), run.config):
        pass
    return policy.requires_grad_(False)


def columns_of(scores):
    """The columns of Tables 6 and 18 of an evaluation."""
    return {column: scores[SCORES[column]] for column in COLUMNS}


def compare_functions(case):
    """Tables 5, 6 and 7. What is rewarded was trained with the run's seed; what measures the result
    with the next, so that no function judges itself."""
    run, models, evaluator = open_evaluator(case.folders["main"], "cpu")
    functions = train_functions(run, case.seed)
    held_out = train_functions(run, case.seed + 1)
    answers = original_answers(run, models["original"], evaluator)
    asked = [run.split.owners.index(r.owner) for r in run.split.forget]
    retrained = evaluate(models["retrained"], evaluator)
    compared = {"original": models["original"], "retraining": models["retrained"]}
    tables = {"table5": {}, "table6": {}, "table7": {}}
    for name, posterior in functions.items():
        tables["table5"][name] = {"accuracy": accuracy(posterior, *answers)}
        attribute = partial(attribution, posterior)
        compared[name] = unlearn_with(run, models["original"], attribute)
    for label, model in compared.items():
        evaluation = evaluate(model, evaluator, retrained)
        prompts, ids = evaluation.responses.prompts, evaluation.responses.ids
        tables["table7"][label] = {
            f"by the {name}": attribution(posterior, prompts, ids, asked)[:, -1].mean().item()
            for name, posterior in held_out.items()
        }
        if label in functions:
            tables["table6"][label] = columns_of(evaluation.scores)
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
    answers = original_answers(run, models["original"], evaluator)
    retrained = evaluate(models["retrained"], evaluator)
    generator = torch.Generator().manual_seed(case.seed)
    noise = [
        torch.randn(p.shape, generator=generator) * p.std(unbiased=False)
        for p in evaluator.classifier.parameters()
    ]

    def right_share(scale):
        classifier = noisy(evaluator.classifier, noise, scale)
        return accuracy(partial(owner_posterior, classifier), *answers)

    scales = {"none": 0.0}
    scales |= {str(target): noise_of_accuracy(right_share, target) for target in ACCURACIES}
    rows = {}
    for label, scale in scales.items():
        posterior = partial(owner_posterior, noisy(evaluator.classifier, noise, scale))
        policy = unlearn_with(run, models["original"], partial(attribution, posterior))
        scores = evaluate(policy, evaluator, retrained).scores
        rows[label] = {"accuracy": right_share(scale), **columns_of(scores)}
    return {"table18": rows}
