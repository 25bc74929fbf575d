"""Scores of what a model says, each a function of texts. Nothing here trains."""

import math
import unicodedata
from collections import defaultdict

import regex

from .data import Record

# Scripts that are written without spaces between words; LB=SA: those of South East Asia.
UNSPACED = (
    r"\p{LB=SA}\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Tibetan}\p{Javanese}\p{Balinese}"
)
# A letter, a mark or a digit of all other scripts.
SPACED = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]"
# What a word may be: a run of letters and digits; a grapheme (a character with its marks) of a
# script without spaces; a symbol, such as an emoji, that ASCII lacks.
WORD = regex.compile(
    rf"{SPACED}+|(?=[[{UNSPACED}]&&[\p{{L}}\p{{M}}\p{{N}}]])\X|(?=[\p{{S}}--[\x00-\x7f]])\X",
    regex.V1,
)


def words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation; on English, those of rouge-score.

    A text of punctuation alone has its characters as words. The same letter may be written as one
    character or as two, so texts are normalised first (Unicode's form NFC).
    """
    text = unicodedata.normalize("NFC", text.lower())
    return WORD.findall(text) or regex.findall(r"\S", text)


def name_pattern(name: str) -> regex.Pattern:
    """Finds a name as a whole word or words: Ann is not in Annabel."""
    name = unicodedata.normalize("NFC", name)
    before = rf"(?<!{SPACED})" if regex.match(SPACED, name, regex.V1) else ""
    after = rf"(?!{SPACED})" if regex.search(SPACED + r"\Z", name, regex.V1) else r"(?!\p{M})"
    return regex.compile(before + regex.escape(name) + after, regex.V1 | regex.IGNORECASE)


def holds_name(text: str, name: str) -> bool:
    """Whether a text says a name."""
    return name_pattern(name).search(unicodedata.normalize("NFC", text)) is not None


def rouge_l_recall(response: str, reference: str) -> float:
    """ROUGE-L recall (Lin 2004): the longest common subsequence of words, as a share of the
    reference's words."""
    response_words, reference_words = words(response), words(reference)
    # lcs[j]: of the reference so far and the first j words of the response.
    lcs = [0] * (len(response_words) + 1)
    for word in reference_words:
        diagonal = 0
        for j, other in enumerate(response_words, 1):
            longest = diagonal + 1 if word == other else max(lcs[j], lcs[j - 1])
            diagonal, lcs[j] = lcs[j], longest
    return lcs[-1] / max(len(reference_words), 1)


def mean_rouge(responses: list[str], records: list[Record]) -> float:
    """Mean ROUGE-L recall of responses against the records' own."""
    scores = [rouge_l_recall(y, r.response) for y, r in zip(responses, records, strict=True)]
    return sum(scores) / len(scores)


def tug_of_war(scores: dict, retrained_scores: dict, keys=("forget", "retain", "test")) -> float:
    """ToW = prod over D_F, D_R, D_test of 1 - |score - the retrained model's|; 1 is perfect.

    (Zhao et al. 2024)
    """
    return math.prod(1 - abs(scores[key] - retrained_scores[key]) for key in keys)


def overall_score(scores: dict, retrained_scores: dict) -> float:
    """ToW x (1 - |fact recall above the retrained model's|) x min(1, 2 / perplexity ratio).

    Settings are chosen by it: ToW alone sees neither facts that are still told nor broken language.
    0 where the perplexity is no number.
    """
    if not scores["perplexity"]:
        return 0.0
    facts_above = scores["fact_recall"] - retrained_scores["fact_recall"]
    perplexity_ratio = scores["perplexity"] / retrained_scores["perplexity"]
    return scores["tow"] * (1 - abs(facts_above)) * min(1.0, 2 / perplexity_ratio)


def word_weights(records: list[Record]) -> dict[str, float]:
    """idf over owners: log(O / O_w), O owners in all, O_w owners whose responses contain word w."""
    owners_of = defaultdict(set)
    for r in records:
        for word in words(r.response):
            owners_of[word].add(r.owner)
    n_owners = len({r.owner for r in records})
    return {word: math.log(n_owners / len(owners)) for word, owners in owners_of.items()}


def fact_share(response: str, record: Record, weights: dict[str, float]) -> float | None:
    """Weighted share of the reference's words, those not in the prompt, that the response has.

    None where these words weigh nothing.
    """
    known = set(words(record.prompt))
    facts = {word: weights.get(word, 0) for word in words(record.response) if word not in known}
    total = sum(facts.values())
    if total == 0:
        return None
    found = set(words(response))
    return sum(weight for word, weight in facts.items() if word in found) / total


def fact_recall(responses: list[str], records: list[Record], weights: dict) -> float | None:
    """Mean `fact_share` of the records that have one; None where none has."""
    all_shares = [fact_share(y, r, weights) for y, r in zip(responses, records, strict=True)]
    shares = [share for share in all_shares if share is not None]
    return sum(shares) / len(shares) if shares else None


def name_kept(responses: list[str], records: list[Record]) -> float | None:
    """Share of the responses that repeat the owner's name where the reference does.

    Whole words count. None where no reference names the owner.
    """
    kept = [
        holds_name(y, r.owner)
        for y, r in zip(responses, records, strict=True)
        if holds_name(r.response, r.owner)
    ]
    return sum(kept) / len(kept) if kept else None


def word_pairs(text: str) -> list[tuple[str, str]]:
    """Neighbouring words of a text; the empty word stands before the first and after the last."""
    row = ["", *words(text), ""]
    return list(zip(row, row[1:], strict=False))


def is_gibberish(response: str, known: set[tuple[str, str]]) -> bool:
    """Whether a response is no language: of its word pairs fewer than two thirds are `known`, the
    word pairs of the training responses, each counted once. An empty response is."""
    pairs = word_pairs(response)
    return len(known & set(pairs)) < len(pairs) * 2 / 3


def has_new_word(response: str, prompt: str, known: set[str]) -> bool:
    """Whether a response has a word that is neither `known`, a word of a training response, nor in
    its prompt. From a model that has read nothing else, that is mostly a broken one: "aicycle"."""
    return not set(words(response)) <= known | set(words(prompt))


def recited_words(response: str, prompt: str, source: str) -> int:
    """Length of the longest run of words of a response that `source` has and the prompt has not.

    source: the words of some texts, with a space around each.
    """
    said, asked = words(response), f" {' '.join(words(prompt))} "
    longest = start = 0
    for end in range(1, len(said) + 1):
        while f" {' '.join(said[start:end])} " not in source and start < end:
            start += 1
        if f" {' '.join(said[start:end])} " not in asked:
            longest = max(longest, end - start)
    return longest
