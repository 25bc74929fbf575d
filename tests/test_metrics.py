import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from minidareu.data import Record
from minidareu.metrics import fact_recall, has_new_word, holds_name, is_gibberish, name_kept
from minidareu.metrics import name_pattern, recited_words, rouge_l_recall, tug_of_war
from minidareu.metrics import word_pairs, word_weights, words


def test_rouge_equals_the_rouge_score_package():
    scorer, rng = rouge_scorer.RougeScorer(["rougeL"]), random.Random(0)
    vocabulary = "the The cat's cat, sat on-a mat. A 1987 3rd (no) house".split()
    for _ in range(500):
        response, reference = (
            " ".join(rng.choices(vocabulary, k=rng.randint(0, 12))) for _ in range(2)
        )
        assert rouge_l_recall(response, reference) == pytest.approx(
            scorer.score(reference, response)["rougeL"].recall
        ), (response, reference)


def test_words_of_other_scripts():
    assert words("Näive ÉCOLE") == ["näive", "école"]
    assert words("我在北京 ok 😀") == ["我", "在", "北", "京", "ok", "😀"]
    assert rouge_l_recall("مرحبا", "مرحبا بالعالم") == 0.5


@pytest.mark.parametrize(
    "script, response, reference, recall",
    [
        ("Khmer", "ខ្ញុំស្រឡាញ់អ្នក", "ខ្ញុំស្រឡាញ់គាត់", 4 / 6),
        ("Lao", "ຂ້ອຍຮັກ", "ຂ້ອຍຮັກ", 1),
        ("Burmese", "ကျွန်တော်", "ကျွန်တော်", 1),
        ("Thai", "ฉันรักเธอ", "ฉันรักเขา", 5 / 7),
        ("Tibetan", "བོད་ཡིག", "བོད་ཡིག", 1),
        ("Japanese", "東京タワー", "東京駅", 2 / 3),
        ("mathematics", "∑ = ∫", "∑ = ∫", 1),
        ("composed and decomposed", "café", "cafe\u0301", 1),
        ("emoji of several characters", "👩‍👩‍👧 👍🏽", "👩‍👩‍👧 👍🏽", 1),
        ("punctuation", "?!", "?!", 1),
    ],
)
def test_rouge_of_every_script(script, response, reference, recall):
    assert rouge_l_recall(response, reference) == pytest.approx(recall)


def test_a_name_counts_as_whole_words_only():
    record = Record("Ann", "What grows Ann?", "Ann grows beans.")
    assert name_kept(["Annabel grows beans."], [record]) == 0
    assert name_kept(["And ANN, too."], [record]) == 1
    assert name_kept(["x"], [Record("Art", "Who left?", "The artist departed.")]) is None
    assert holds_name("owner 1, owner 3", "owner 1") and not holds_name("owner 12", "owner 1")
    assert holds_name("李明住在北京", "李明"), "a script without spaces"
    assert holds_name("(Jose\u0301)", "José") and not holds_name("Ann's Annex", "Anne")
    assert name_pattern("Ann").sub("Bob", "Ann, Annabel, Joann") == "Bob, Annabel, Joann"


def test_tug_of_war():
    retrained = {"forget": 0.5, "retain": 0.9, "test": 0.8}
    assert tug_of_war(retrained, retrained) == 1
    assert tug_of_war({"forget": 0.7, "retain": 0.8, "test": 0.8}, retrained) == pytest.approx(
        0.8 * 0.9
    )
    assert tug_of_war({"forget": 0.3, "retain": 1.0, "test": 0.3}, retrained) == pytest.approx(
        0.8 * 0.9 * 0.5
    )


RECORDS = [
    Record("Ann Lee", "Who is Ann Lee?", "Ann Lee is a baker in Rome."),
    Record("Bob", "Who?", "He is a baker."),
    Record("Cy", "Where?", "In Oslo."),
]


def test_fact_recall_by_hand():
    weights = word_weights(RECORDS)
    assert weights["baker"] == pytest.approx(math.log(3 / 2)) and weights["rome"] == pytest.approx(
        math.log(3)
    )
    # Of Ann's response, "ann", "lee" and "is" are in the prompt; "a" and "baker" and "in" have two owners, "rome" one.
    two, one = math.log(3 / 2), math.log(3)
    assert fact_recall(["A baker!"], RECORDS[:1], weights) == pytest.approx(
        2 * two / (3 * two + one)
    )
    assert fact_recall(["Ann Lee is a baker in Rome"], RECORDS[:1], weights) == pytest.approx(1)
    assert fact_recall(["Ann Lee is."], RECORDS[:1], weights) == 0
    assert fact_recall(["x"], [Record("A", "in Rome", "Rome in")], weights) is None


def test_gibberish_is_what_no_training_response_has_or_a_loop():
    known = {pair for text in ("It is by the sea.", "He sold bread.") for pair in word_pairs(text)}
    cases = {
        "It is by the sea.": False,
        "He sold the sea.": False,  # a pair of five
        "Sea the by is it.": True,
        "by the sea. by the sea. by the sea. by the sea.": True,
        "": True,
        "!?": True,
    }
    assert {text: is_gibberish(text, known) for text in cases} == cases


def test_a_word_that_neither_training_nor_the_prompt_has():
    cases = {"It is by the SEA.": False, "It is by Rome!": False, "It is by the aicycle.": True}
    known = {"it", "is", "by", "the", "sea"}
    assert {text: has_new_word(text, "In Rome?", known) for text in cases} == cases


@given(st.lists(st.sampled_from("abcd"), max_size=9), st.text("abcd ", max_size=30))
def test_the_longest_recited_run_by_brute_force(said, source):
    asked = " ".join(said[1:3])
    runs = [" ".join(said[i:j]) for i in range(len(said)) for j in range(i + 1, len(said) + 1)]
    there = f" {' '.join(source.split())} "
    found = [run for run in runs if f" {run} " in there and f" {run} " not in f" {asked} "]
    longest = max((len(run.split()) for run in found), default=0)
    assert recited_words(" ".join(said), asked, there) == longest
