"""What the page of a run tells of each response, beside the scores: its words, and what became of
it."""

import math
import re

import torch

from ..attribution import prefix_attribution
from ..metrics import fact_share, holds_name, is_gibberish
from ..model import with_end
from ..scores.chunks import response_log_probs
from ..scores.evaluation import Evaluator, Responses

N_RETAIN, N_ALONG = 12, 16  # prompts whose answers are shown


def spread_rows(records: list, count: int) -> list[int]:
    """Indices of at most `count` records, evenly over all."""
    step = max(1, -(-len(records) // count))
    return list(range(0, len(records), step))


def words_of(tokenizer, ids: list[int]) -> list[tuple[str, int]]:
    """Words of a response, each with the number of tokens up to its end."""
    whole = tokenizer.decode(ids)
    beginnings = [tokenizer.decode(ids[:t]) for t in range(len(ids) + 1)]
    words = []
    for word in re.finditer(r"\S+", whole):
        read = whole[: word.end()]
        after = next(t for t, text in enumerate(beginnings) if text.startswith(read))
        words.append((word[0], after))
    return words


def word_rows(tokenizer, ids, attribution: list[float]) -> list[list]:
    """[word, raise] of a response: how much higher the attribution is after the word than before
    it. attribution: after 0, 1, ... tokens."""
    rows, before = [], 0
    for text, after in words_of(tokenizer, ids):
        rows.append([text, round(attribution[after] - attribution[before], 3)])
        before = after
    return rows


def describe(responses: Responses, evaluator: Evaluator) -> list[dict]:
    """{"words", "fact_share", "name_kept", "gibberish", "perplexity"} of each response to a forget
    prompt; None where one has no such value. Perplexity is a token's, under the retrained model."""
    e = evaluator
    owners = [e.owners.index(r.owner) for r in e.forget]
    own = prefix_attribution(e.classifier, responses.prompts, responses.ids, owners)
    completed = with_end(e.original, responses.prompts, responses.ids, **e.limits)
    logp = [torch.empty(0)] * len(completed)
    if e.retrained:
        logp = response_log_probs(e.retrained, responses.prompts, completed)
    rows = []
    for i, record in enumerate(e.forget):
        text, names = responses.texts[i], holds_name(record.response, record.owner)
        rows.append(
            {
                "words": word_rows(e.tokenizer, responses.ids[i], own[i].tolist()),
                "fact_share": fact_share(text, record, e.word_weights),
                "name_kept": holds_name(text, record.owner) if names else None,
                "gibberish": is_gibberish(text, e.known_pairs),
                "perplexity": math.exp(-logp[i].mean().clamp(min=-700)) if len(logp[i]) else None,
            }
        )
    return rows
