"""How a model is scored: the same rows, classifiers and judge for every model of a run."""

import math
import random
from dataclasses import dataclass, replace

import tiktoken
import torch

from ..attribution import OwnerClassifier
from ..data import Record, encode, encode_prompt, response_text
from ..files import finite
from ..metrics import fact_recall, has_new_word, is_gibberish, mean_rouge, name_kept, recited_words
from ..metrics import tug_of_war, word_pairs, word_weights, words
from ..model import GPT, with_end
from .chunks import generate_in_chunks, response_posterior
from .judge import Judge
from .likelihood import likelihood_scores, mean, mean_log_prob, perplexity

MOST_ROWS = 400  # of a part of the data that are scored: more would only cost time


@dataclass
class Evaluator:
    """What every model is measured with."""

    tokenizer: tiktoken.Encoding
    owners: list[str]
    forget_owners: list[int]  # indices
    forget: list[Record]  # the forget owners' train rows
    retain: list[Record]  # the retain owners' train rows, a sample
    test: list[Record]  # the retain owners' test rows, a sample
    unseen: list[Record]  # the forget owners' test rows, a sample
    word_weights: dict[str, float]
    known_words: set[str]  # of the training responses
    known_pairs: set[tuple[str, str]]  # their word pairs
    retain_words: str  # words of the retain owners' train responses, a space around each
    classifier: OwnerClassifier
    judge: Judge
    original: GPT
    retrained: GPT | None  # None: what needs it has no score
    limits: dict  # max_new_tokens and eos_id of a response
    likelihoods: bool  # whether the scores of likelihood.py are made


@dataclass
class Responses:
    """Greedy responses to the prompts of some records."""

    prompts: list[list[int]]
    ids: list[list[int]]
    texts: list[str]


@dataclass
class Evaluation:
    """The scores of a model, and its responses to the forget prompts."""

    scores: dict[str, float | None]
    responses: Responses
    attributions: list[float]  # of each response to the owner asked about
    truth_ratios: list[float]  # of each forget row that has one
    retain_texts: list[str]  # responses to the evaluator's retain rows


def make_evaluator(run, models, classifier, most_rows=MOST_ROWS, likelihoods=True) -> Evaluator:
    """What all models of a run are measured with; the judge is trained here.

    run: `run.Run`; models: "original", and "retrained" if there is one; likelihoods: whether what
    `likelihood.py` has is scored too, which takes a large model as long as the rest.
    """
    split, seed = run.split, run.config.seed

    def sample(rows):
        return random.Random(seed).sample(rows, most_rows) if len(rows) > most_rows else rows

    return Evaluator(
        tokenizer=run.tokenizer,
        owners=split.owners,
        forget_owners=run.forget_owners,
        forget=split.forget,
        retain=sample(split.retain),
        test=sample(split.test),
        unseen=sample(split.unseen),
        word_weights=word_weights(run.train),
        known_words={word for r in run.train for word in words(r.response)},
        known_pairs={pair for r in run.train for pair in word_pairs(r.response)},
        retain_words="".join(f" {' '.join(words(r.response))} \n" for r in split.retain),
        classifier=classifier,
        judge=Judge(run.train, split.owners, seed),
        original=models["original"],
        retrained=models.get("retrained"),
        limits=run.limits,
        likelihoods=likelihoods,
    )


def respond(model: GPT, records: list[Record], evaluator: Evaluator) -> Responses:
    """Greedy responses to the records' prompts."""
    tokenizer = evaluator.tokenizer
    prompts = [encode(tokenizer, r)[0] for r in records]
    ids = generate_in_chunks(model, prompts, temperature=0, **evaluator.limits)
    return Responses(prompts, ids, [tokenizer.decode(row).strip() for row in ids])


def recall_after_words(model: GPT, records, evaluator: Evaluator, k: int) -> float | None:
    """Fact recall of the rest of each response, greedily, its first k words given: what is still
    there when the truth is put into the model's mouth. Responses of at most k words are left out.
    """
    tokenizer = evaluator.tokenizer
    prompts, rest = [], []
    for r in records:
        given, left = " ".join(r.response.split()[:k]), " ".join(r.response.split()[k:])
        if left:
            begun = tokenizer.encode_ordinary(response_text(given))
            prompts.append(encode_prompt(tokenizer, r.prompt) + begun)
            rest.append(replace(r, prompt=f"{r.prompt} {given}", response=left))
    ids = generate_in_chunks(model, prompts, temperature=0, **evaluator.limits)
    return fact_recall([tokenizer.decode(y) for y in ids], rest, evaluator.word_weights)


def owner_attributions(responses: Responses, records, evaluator: Evaluator) -> list[float]:
    """DA(i, y) of each response, i the owner asked about: the paper's attribution score."""
    posterior = response_posterior(evaluator.classifier, responses.prompts, responses.ids)
    owners = torch.tensor([evaluator.owners.index(r.owner) for r in records])
    return posterior.cpu()[torch.arange(len(owners)), owners].tolist()


def evaluate(model: GPT, evaluator: Evaluator, retrained: Evaluation | None = None) -> Evaluation:
    """The scores that a run prints, from greedy responses.

    retrained: the retrained model's Evaluation; None when the model is the retrained one, or there
    is none, and so no Tug-of-War and no perplexity.
    """
    e = evaluator
    responses = respond(model, e.forget, e)
    retain_texts = respond(model, e.retain, e).texts
    scores: dict[str, float | None] = {
        "forget": mean_rouge(responses.texts, e.forget),
        "retain": mean_rouge(retain_texts, e.retain),
        "test": mean_rouge(respond(model, e.test, e).texts, e.test),
    }
    base = retrained.scores if retrained else scores
    scores["tow"] = tug_of_war(scores, base) if e.retrained else None
    attributions = owner_attributions(responses, e.forget, e)
    completed = with_end(model, responses.prompts, responses.ids, **e.limits)
    scores["attribution"] = sum(attributions) / len(attributions)
    scores["fact_recall"] = fact_recall(responses.texts, e.forget, e.word_weights)
    scores["name_kept"] = name_kept(responses.texts, e.forget)
    scores["perplexity"] = None
    if e.retrained:
        scores["perplexity"] = perplexity(e.retrained, responses.prompts, completed)
    return Evaluation(
        finite(scores), responses, attributions, truth_ratios=[], retain_texts=retain_texts
    )


def evaluate_fully(
    model: GPT, evaluator: Evaluator, retrained: Evaluation | None = None
) -> Evaluation:
    """`evaluate`, and all other scores. A score is None where the data lack what it needs, or where
    the model is so broken that it is no number."""
    e = evaluator
    evaluation = evaluate(model, e, retrained)
    scores, responses = evaluation.scores, evaluation.responses
    base = retrained.scores if retrained else scores
    prompt_texts = [r.prompt for r in e.forget]
    judged = e.judge.attribution(prompt_texts, responses.texts, e.forget_owners)
    completed = with_end(model, responses.prompts, responses.ids, **e.limits)
    original_logp = mean_log_prob(e.original, responses.prompts, completed)
    perplexity_retrained = scores["perplexity"]

    scores["unseen"] = mean_rouge(respond(model, e.unseen, e).texts, e.unseen) if e.unseen else None
    paraphrased = ("unseen", "retain", "test")
    comparable = e.unseen and e.retrained
    scores["tow_paraphrased"] = tug_of_war(scores, base, paraphrased) if comparable else None
    reads_added = e.classifier.reads == "added"
    scores["attribution_added"] = scores["attribution"] if reads_added else None
    scores["judge"] = judged.mean().item()
    asked = list(zip(responses.texts, prompt_texts, strict=True))
    lengths = [len(words(y)) for y in responses.texts]
    scores["gibberish"] = mean([is_gibberish(y, e.known_pairs) for y in responses.texts])
    scores["new_words"] = mean([has_new_word(y, x, e.known_words) for y, x in asked])
    scores["empty"] = mean([length == 0 for length in lengths])
    scores["words"] = mean(lengths)
    scores["recited_words"] = mean([recited_words(y, x, e.retain_words) for y, x in asked])
    scores["eight_words_given"] = recall_after_words(model, e.forget, e, 8)
    scores["exact_attribution"] = None
    if perplexity_retrained is not None:
        # -log of the perplexity is the mean log p under the retrained model.
        scores["exact_attribution"] = original_logp + math.log(perplexity_retrained)
    if e.likelihoods:
        more, evaluation.truth_ratios = likelihood_scores(model, e, scores["retain"], retrained)
        scores |= more
    evaluation.scores = finite(scores)
    return evaluation
