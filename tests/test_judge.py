"""The judge of attribution."""

import pytest
import torch

from minidareu.data import Record
from minidareu.scores.judge import Judge


def test_judge_tells_owners_apart_by_what_responses_add():
    facts = {
        "Ann": ["baker in Rome", "plays the harp"],
        "Bob": ["pilot in Oslo", "paints the sea"],
        "Cy": ["judge in Lima", "grows old roses"],
    }
    records = [
        Record(owner, f"Tell me of {owner}", f"{owner} is a {fact}")
        for owner, pair in facts.items()
        for fact in pair
    ]
    judge = Judge(records, list(facts), seed=0)
    p = judge.attribution(
        ["Tell me of Ann", "Tell me of Bob", "Tell me of Ann"],
        ["Bob is a baker in Rome", "Bob is a pilot in Oslo", ""],
        [0],
    )
    assert p[0] > 0.9 and p[1] < 0.05 and 0.1 < p[2] < 0.6
    same = judge.attribution(["Tell me of Ann"] * 2, ["Ann is a harp", "is a harp"], [0])
    assert same[0] == pytest.approx(same[1].item(), abs=1e-6), (
        "the name is in the prompt, so it is no evidence"
    )
    assert torch.equal(judge.weight, Judge(records, list(facts), seed=0).weight)
