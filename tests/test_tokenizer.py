import random
import time
from collections import Counter

import pytest
import regex
import tiktoken
from hypothesis import given, strategies as st

from minidareu.tokenizer import EOS, PATTERN, train_tokenizer

TEXTS = [
    "the cat sat on the mat, the cat!",
    "thé naïve 猫 sat",
    "low lower lowest newer newest",
] * 3
ENCODING = train_tokenizer(TEXTS, 280)


@given(st.text())
def test_any_unicode_round_trips(text):
    assert ENCODING.decode(ENCODING.encode_ordinary(text)) == text


@pytest.mark.parametrize(
    "text", ["مرحبا بالعالم", "你好，世界", "👩‍👩‍👧 emoji", "नमस्ते", "a\n\n  b\t", EOS]
)
def test_scripts_round_trip(text):
    assert ENCODING.decode(ENCODING.encode_ordinary(text)) == text


def brute_force_merges(texts, n):
    """BPE as its definition has it: count every pair anew for each merge."""
    words = Counter(word for text in texts for word in regex.findall(PATTERN, text))
    words = [([bytes([b]) for b in word.encode()], count) for word, count in words.items()]
    merges = []
    for _ in range(n):
        pairs = Counter()
        for pieces, count in words:
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best[0] + best[1])
        for pieces, _ in words:
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = [best[0] + best[1]]
                i += 1
    return merges


def test_merges_equal_brute_force():
    merges = brute_force_merges(TEXTS, 23)
    assert [ENCODING.decode_single_token_bytes(256 + i) for i in range(len(merges))] == merges
    assert len(merges) > 20


def test_is_a_real_encoding_of_the_asked_size():
    assert isinstance(ENCODING, tiktoken.Encoding)
    assert ENCODING.n_vocab == 280 and ENCODING.eot_token == 279
    assert ENCODING.encode(EOS, allowed_special="all") == [279]
    assert len(ENCODING.encode_ordinary(" the cat")) == 2


def test_long_words_are_learned_in_pieces_and_quickly():
    rng = random.Random(0)
    syllables = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(3000)]
    texts = ["".join(rng.choices(syllables, k=21)) for _ in range(1000)]
    began = time.process_time()
    encoding = train_tokenizer(texts, 2048)
    assert time.process_time() - began < 10 and encoding.n_vocab == 2048
    merges = brute_force_merges([" ".join(["ab" * 16] * 3)], 3)
    pieces = train_tokenizer(["ab" * 48], 260)
    assert [pieces.decode_single_token_bytes(256 + i) for i in range(3)] == merges[:3]


def test_few_texts_give_a_smaller_vocabulary():
    assert train_tokenizer(["ab"], 1000).n_vocab == 258
    with pytest.raises(ValueError, match="257"):
        train_tokenizer(["ab"], 256)
