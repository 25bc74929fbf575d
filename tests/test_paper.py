"""Many runs: which are made, what is taken over, and the tables of made-up results."""

import json

import pytest

from minidareu.beyond import terms
from minidareu.files import InputError
from minidareu.report.markdown import spread, table
from minidareu.run import pool
from minidareu.paper import search
from minidareu.paper.tables import RUNS

SCORES = "forget retain test tow attribution fact_recall name_kept perplexity".split()


def made_up(method="dareu", **scores):
    base = dict.fromkeys(SCORES, 0.5)
    retrained = {**base, "tow": 1.0, "fact_recall": 0.1, "perplexity": 2.0}
    models = {"original": base, "retrained": retrained, method: {**base, **scores}}
    seconds = {"retrained": 50.0, method: 20.0}
    return {"models": models, "config": {"methods": method}, "seconds": seconds}


def test_spread_and_table():
    assert spread([0.3, None, 0.1, 0.2]) == "0.200 (0.100 to 0.300)"
    assert spread([None]) == "-"
    assert table(["a", "b"], [["1", "2"]]) == ["", "| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_variants_take_over_the_models_of_the_first(tmp_path, monkeypatch):
    jobs = []

    def fake(job):
        jobs.append(job)
        return made_up(tow=0.9)

    monkeypatch.setattr(pool, "run", fake)
    variants = {"one": ["--ppo-steps", 5], "two, more": ["--ppo-steps", 9]}
    results = pool.run_variants(variants, [7, 8], tmp_path, 1, flags=["--n-forget", 3])
    assert set(results) == {(label, seed) for label in variants for seed in (7, 8)}
    assert {job.folder.name for job in jobs[:2]} == {"one-seed7", "one-seed8"}, "these come first"
    for job in jobs:
        base = tmp_path / f"one-{job.folder.name.split('-')[-1]}"
        assert job.reuse == (None if job.folder == base else base)
        assert job.flags[job.flags.index("--n-forget") + 1] == 3
    assert {job.folder.name for job in jobs[2:]} == {"two-more-seed7", "two-more-seed8"}


def test_a_run_is_made_once_and_a_failing_one_is_one_line(toy, tmp_path):
    from conftest import FAST

    tiny = "--epochs 1 --classifier-epochs 1 --methods dareu"
    flags = ["--data", str(toy), *FAST, *tiny.split(), "--ppo-steps", 1]
    job = pool.Job(tmp_path / "run", flags)
    results = pool.run(job)
    before = (tmp_path / "run/results.json").stat().st_mtime_ns
    assert pool.run(job) == results
    assert (tmp_path / "run/results.json").stat().st_mtime_ns == before
    with pytest.raises(InputError) as e:
        pool.run(pool.Job(tmp_path / "bad", ["--no-such-flag"]))
    assert "\n" not in str(e.value) and "bad.txt" in str(e.value)
    assert "--no-such-flag" in (tmp_path / "bad.txt").read_text()


def test_every_row_is_a_command_that_train_takes():
    from minidareu.run.flags import parse

    for flags in [*terms.RUNS.values(), *(r.flags for r in RUNS.values())]:
        parse([*map(str, flags)], "")


def test_the_search_takes_the_highest_mean(tmp_path, monkeypatch):
    """`train.py` replaced by formulas, whose best settings are known."""

    def of_dareu(given):
        """Best at S_PPO 5, rate 4e-4, gamma .8 and 64 retain rows; a larger KL gains little."""
        value = 0.9 - (given["--seed"] - 100) / 100 - abs(given["--rl-lr"] - 4e-4) * 100
        value -= abs(given["--ppo-steps"] - 5) / 100 + abs(given.get("--gamma", 0.9) - 0.8)
        value -= abs(given.get("--retain-batch", 32) - 64) / 1000
        return value + 0.001 * (given.get("--kl-coef", 0.1) > 0.1)

    def of_loss(given):
        return (
            1 - abs(given["--baseline-lr"] - 1e-4) * 100 - abs(given["--baseline-passes"] - 4) / 16
        )

    def fake_runs(jobs, workers):
        results = {}
        for folder, job in jobs.items():
            given = {a: b for a, b in zip(job.flags, job.flags[1:]) if str(a).startswith("--")}
            method, tow = given["--methods"], 0.5
            if given.get("--algorithm") == "reinforce":
                tow = 0.9 - abs(given["--rl-lr"] - 8e-4) * 10
            elif method == "dareu":
                tow = of_dareu(given)
            elif method in ("dareu_plus", "scrn"):
                tow = given.get("--plus-lr") or 1 - abs(given["--baseline-lr"] - 0.1)
            elif "--baseline-passes" in given:
                tow = of_loss(given)
            results[folder] = made_up(method, tow=tow, fact_recall=0.1, perplexity=2.0)
        return results

    monkeypatch.setattr(search, "run_all", fake_runs)
    monkeypatch.setattr(search, "SEARCH_FILE", tmp_path / "search.json")
    search.search([], tmp_path, 2)
    found = json.loads((tmp_path / "search.json").read_text())["methods"]
    assert set(found) == {"dareu", "reinforce", "dareu_plus", "scrn", *search.METHODS}
    assert found["reinforce"]["chosen"]["--rl-lr"] == 8e-4, "more than the seeds differ"
    assert found["npo"]["chosen"] == {"--baseline-lr": 1e-4, "--baseline-passes": 4}
    chosen = found["dareu"]["chosen"]
    assert (chosen["--ppo-steps"], chosen["--rl-lr"]) == (5, 4e-4)
    assert chosen["--gamma"] == 0.8 and chosen["--retain-batch"] == 64
    assert chosen["--kl-coef"] == 0.1, "the gain of another value is within the spread"
    assert found["dareu_plus"]["chosen"]["--plus-lr"] == 5e-3
    assert found["scrn"]["chosen"] == {"--baseline-lr": 0.1}
    assert {len(cell["scores"]) for cell in found["dareu"]["grid"]} == {3}
    search.search(["npo"], tmp_path, 2)
    assert json.loads((tmp_path / "search.json").read_text())["methods"] == found, "others stay"


def test_a_papers_value_stays_where_the_gain_is_within_the_spread():
    papers = {("--ppo-steps", 20)}

    def cell(steps, scores):
        return {"flags": {"--ppo-steps": steps}, "scores": scores}

    wide, narrow = cell(20, [0.6, 0.9]), cell(20, [0.74, 0.76])
    other = cell(5, [0.85, 0.85])
    assert search.choose([wide, other], papers) is wide
    assert search.choose([narrow, other], papers) is other
    assert search.choose([wide, narrow, other], set()) is other
