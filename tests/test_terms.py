"""The study that takes the parts of DareU away."""

import json

import pytest

from conftest import FAST
from minidareu.beyond import terms


@pytest.fixture
def study(four_owners, tmp_path, monkeypatch):
    """Its rows on a tiny dataset, without the data that name their owners."""
    monkeypatch.setattr(terms, "RUNS", {"DareU": []})
    flags = ["--data", str(four_owners), "--n-forget", "1", *FAST, "--data-epochs", "2"]
    flags += ["--methods", "dareu"]
    argv = ["--seeds", "0", "--workers", "1", "--out", str(tmp_path), "--flags", " ".join(flags)]
    return argv, tmp_path


def test_each_change_is_a_row_and_is_kept(study, monkeypatch, capsys):
    argv, out = study
    terms.main(argv)
    found = json.loads((out / "terms.json").read_text())["rows"]
    assert list(found) == ["DareU", *terms.CHANGES]
    rows = {label: dict(by_seed[0]) for label, by_seed in found.items()}
    rows["DareU"].pop("8 words given, above")
    forgotten = rows["without J"]["facts above retrained"] - rows["DareU"]["facts above retrained"]
    assert forgotten > 0.2, "without J next to nothing is forgotten"
    as_they_are = [label for label in terms.CHANGES if rows[label] == rows["DareU"]]
    as_they_are = [label for label in as_they_are if label != "pi_old of the data epoch"]
    assert not as_they_are, "every change changes something; here a data epoch is one batch"
    monkeypatch.setattr(terms.dareu, "unlearn", None)  # what is done is not done again
    terms.main(argv)
    assert json.loads((out / "terms.json").read_text())["rows"] == found
    assert "| without J |" in capsys.readouterr().out
