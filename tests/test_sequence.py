"""Requests one after another."""

import json
import shutil

import pytest

import train
from minidareu.files import InputError


def test_a_further_request_begins_with_the_unlearned_models(run, tmp_path, capsys):
    argv, out = run
    old = json.loads((out / "results.json").read_text())
    begin = ["--from", str(out), "--forget", "Bob Moss", "--out", str(tmp_path / "second")]
    flags = ["--methods", "dareu_plus", "--device", "cpu"]
    train.main([*begin, *flags, "--plus-updates", "60", "--plus-lr", "0.002"])
    printed = capsys.readouterr().out
    assert printed.count("kept from an earlier run") == 2, "original model and classifier"
    new = json.loads((tmp_path / "second" / "results.json").read_text())
    assert set(new["forget"]) == {*old["forget"], "Bob Moss"} and new["config"]["n_embd"] == 48
    original, plus = new["models"]["original"], new["models"]["dareu_plus"]
    assert original["retain"] > 0.9 and plus["tow"] > original["tow"]
    assert plus["fact_recall"] < original["fact_recall"] - 0.2

    third = ["--from", str(tmp_path / "second"), "--n-forget", "1", *flags]
    train.main([*third, "--plus-updates", "1"])
    folders = [p for p in tmp_path.iterdir() if p.name.startswith("second-then-")]
    assert len(folders) == 1
    assert len(json.loads((folders[0] / "experiment.json").read_text())["requests"]) == 3


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--from", "nowhere"], "nowhere/results.json: not there"),
        (["--from", "{run}", "--forget", "{forgotten}"], "forgotten already"),
        (["--from", "{run}", "--n-embd", "64"], "--n-embd: is 64, and 48"),
        (["--from", "{run}", "--seed", "3"], "--seed: is 3, and 0"),
        (["--from", "{run}", "--data", "other.jsonl"], "--data: is other.jsonl"),
        (
            ["--from", "{run}", "--methods", "npo", "--forget", "Bob Moss"],
            "npo.pt: not there; run that run's command again, with this method",
        ),
        (["--from", "{run}", "--n-forget", "10"], "all 10 owners"),
    ],
)
def test_what_a_further_request_can_not_be(run, tmp_path, flags, says):
    names = {
        "{run}": str(run[1]),
        "{forgotten}": json.loads((run[1] / "results.json").read_text())["forget"][0],
    }
    with pytest.raises(InputError) as e:
        given = [names.get(flag, flag) for flag in flags]
        train.main([*given, "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert says in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("experiment.json", b"{", "experiment.json: not there, or not of a run"),
        ("results.json", b"[]", "results.json: not there, or not of a run"),
        ("dareu.pt", b"PK cut", "dareu.pt: cut short, or not a checkpoint"),
        ("original.pt", b"PK cut", "original.pt: cut short, or not a checkpoint"),
    ],
)
def test_an_earlier_run_that_is_broken_is_named(run, tmp_path, name, content, says):
    shutil.copytree(run[1], tmp_path / "first")
    (tmp_path / "first" / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        places = ["--from", str(tmp_path / "first"), "--out", str(tmp_path / "second")]
        train.main([*places, "--forget", "Bob Moss", "--device", "cpu"])
    assert (tmp_path / "first" / name).read_bytes() == content
