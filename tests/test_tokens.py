"""Which tokens fall: their kinds by hand, and the change of log p of a real run."""

from minidareu.beyond.tokens import KINDS, kinds_of_tokens, mean_changes, word_at
from minidareu.metrics import word_weights
from minidareu.run.prepare import open_run


def test_the_word_that_a_character_belongs_to():
    assert word_at(" Ann grows beans.", 1) == "Ann" and word_at(" Ann grows beans.", 3) == "Ann"
    assert word_at(" Ann grows beans.", 12) == "beans."


def test_kinds_of_tokens(run):
    finished = open_run(run[1], "cpu")
    weights = word_weights(finished.train)
    finished.word_weights = weights
    r = finished.split.forget[0]  # "Ann Lee lives in bala near core."
    kinds = kinds_of_tokens(finished, r)
    ids = finished.pairs[r][1]
    assert len(kinds) == len(ids)
    assert [place for place, _ in kinds] == sorted([place for place, _ in kinds], key=KINDS.index)
    by_kind = {kind: "" for kind in KINDS}
    for (_, kind), token in zip(kinds, ids, strict=True):
        by_kind[kind] += finished.tokenizer.decode([token])
    for name in r.owner.split():
        assert name in by_kind["name"]
    facts = [w for w in r.response.rstrip(".").split() if weights[w.lower()] > 0.7]
    facts = [w for w in facts if w not in r.owner]
    assert facts and all(fact in by_kind["fact"] for fact in facts)


def test_what_is_forgotten_falls(run):
    changes = mean_changes(run[1])
    assert set(changes) == set(KINDS) and changes["fact"] < 0
