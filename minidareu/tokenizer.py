"""Byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2), trained on the dataset so that a run
needs no network."""

from collections import Counter, defaultdict

import regex
import tiktoken

from .files import InputError

EOS = "<|endoftext|>"
# GPT-2's split of a text into words: contractions, letters, digits and punctuation, each with the
# space before it.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def merge(word, left, right):
    """Join every `left` that stands before a `right`: a list of bytes objects -> a shorter list."""
    merged = []
    for piece in word:
        if merged and merged[-1] == left and piece == right:
            merged[-1] = left + right
        else:
            merged.append(piece)
    return merged


def train_tokenizer(texts: list[str], vocab_size: int) -> tiktoken.Encoding:
    """Byte-level BPE: the 256 bytes, then merges of the most frequent adjacent pair, then `EOS`.

    `vocab_size` counts all three (at least 257). Texts with fewer merges to offer give a smaller
    vocabulary: see `Encoding.n_vocab`. Ties go to the pair that comes first in byte order, so that
    the result is deterministic.
    """
    if vocab_size < 257:
        raise ValueError(f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least 257")
    word_counts = Counter(word for text in texts for word in regex.findall(PATTERN, text))
    counts = list(word_counts.values())
    words = [[bytes([b]) for b in word.encode()] for word in word_counts]
    pair_counts, where = Counter(), defaultdict(set)  # where: pair -> the words that may hold it
    for i, word in enumerate(words):
        for pair in zip(word, word[1:], strict=False):
            pair_counts[pair] += counts[i]
            where[pair].add(i)
    ranks = {bytes([b]): b for b in range(256)}
    while len(ranks) < vocab_size - 1 and pair_counts:
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        ranks.setdefault(best[0] + best[1], len(ranks))
        for i in where.pop(best):
            for pair in zip(words[i], words[i][1:], strict=False):
                pair_counts[pair] -= counts[i]
            words[i] = merge(words[i], *best)
            for pair in zip(words[i], words[i][1:], strict=False):
                pair_counts[pair] += counts[i]
                where[pair].add(i)
        pair_counts = +pair_counts  # drops the pairs that no word holds any more
    return tiktoken.Encoding(
        "minidareu", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={EOS: len(ranks)}
    )


def gpt2_tokenizer():
    """GPT-2's own encoding, which tiktoken fetches on first use. Raises InputError."""
    try:
        return tiktoken.get_encoding("gpt2")
    except Exception as e:  # whatever the network layer raises
        raise InputError(
            f"--tokenizer gpt2: its ranks can't be fetched ({type(e).__name__}); "
            "go online once, or use --tokenizer bpe"
        ) from None
