"""Byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2), trained on the dataset so that a run
needs no network."""

import heapq
from collections import Counter, defaultdict

import regex
import tiktoken
from tqdm import tqdm

EOS = "<|endoftext|>"
LONGEST_WORD = 32  # characters; merges are learned on pieces of longer ones, as without spaces
# GPT-2's split of a text into words: contractions, letters, digits and punctuation, each with the
# space before it.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def merge(word: list[bytes], left: bytes, right: bytes) -> tuple[list, list]:
    """Join every `left` that stands before a `right` in a word, in place: a list of bytes objects.

    Returns the pairs that came to be and those that are gone.
    """
    joined, born, gone = left + right, [], []
    i = 0
    while i + 1 < len(word):
        if word[i] == left and word[i + 1] == right:
            gone.append((left, right))
            if i > 0:
                gone.append((word[i - 1], left))
                born.append((word[i - 1], joined))
            if i + 2 < len(word):
                gone.append((right, word[i + 2]))
                born.append((joined, word[i + 2]))
            word[i : i + 2] = [joined]
        i += 1
    return born, gone


def count_words(texts: list[str]) -> Counter:
    """The words of texts, long ones in pieces, with their counts."""
    counts = Counter(word for text in texts for word in regex.findall(PATTERN, text))
    pieces: Counter = Counter()
    for word, count in counts.items():
        for start in range(0, len(word), LONGEST_WORD):
            pieces[word[start : start + LONGEST_WORD]] += count
    return pieces


def train_tokenizer(texts: list[str], vocab_size: int) -> tiktoken.Encoding:
    """Byte-level BPE: the 256 bytes, then merges of the most frequent adjacent pair, then `EOS`.

    `vocab_size` counts all three (at least 257). Texts with fewer merges to offer give a smaller
    vocabulary: see `Encoding.n_vocab`. Ties go to the pair that comes first in byte order.
    """
    if vocab_size < 257:
        raise ValueError(f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least 257")
    word_counts = count_words(texts)
    counts = list(word_counts.values())
    words = [[bytes([b]) for b in word.encode()] for word in word_counts]
    pair_counts: Counter = Counter()
    where = defaultdict(set)  # pair -> the words that may hold it
    for i, word in enumerate(words):
        for pair in zip(word, word[1:], strict=False):
            pair_counts[pair] += counts[i]
            where[pair].add(i)
    # The most frequent pair is on top. A pair has an entry for each count that it ever had, and
    # those that are out of date are passed over.
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    ranks = {bytes([b]): b for b in range(256)}
    bar = tqdm(total=vocab_size - 257, desc="tokenizer", disable=None, delay=1)
    while len(ranks) < vocab_size - 1 and heap:
        count, best = heapq.heappop(heap)
        if -count != pair_counts[best] or count == 0:
            continue
        joined = best[0] + best[1]
        bar.update(joined not in ranks)
        ranks.setdefault(joined, len(ranks))
        changes: Counter = Counter()
        for i in where.pop(best):
            born, gone = merge(words[i], *best)
            for pair in gone:
                changes[pair] -= counts[i]
            for pair in born:
                changes[pair] += counts[i]
                where[pair].add(i)
        for pair, change in changes.items():
            if change:
                pair_counts[pair] += change
                heapq.heappush(heap, (-pair_counts[pair], pair))
    bar.close()
    return make_encoding(ranks)


def make_encoding(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """The encoding of ranks: {bytes of a token: its id}."""
    return tiktoken.Encoding(
        "minidareu", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={EOS: len(ranks)}
    )
