"""Asking the models of a finished run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import train
from conftest import FAST
from minidareu.beyond.finished import open_finished
from minidareu.data import encode, load_records
from minidareu.files import InputError
from minidareu.sample import main
from minidareu.scores.chunks import response_posterior


ROOT = Path(__file__).parent.parent


def sample(*argv, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "minidareu.sample", *map(str, argv)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_the_models_side_by_side(run, capsys):
    argv, out = run
    forgotten = json.loads((out / "results.json").read_text())["forget"]
    records = [r for r in load_records(argv[1]) if r.split == "train"]
    rows = map(json.loads, (out / "samples.jsonl").read_text().splitlines())
    samples = {row["prompt"]: row for row in rows}
    of_forget = [r for r in records if r.owner in forgotten]
    asked = max(of_forget, key=lambda r: samples[r.prompt]["original"]["attribution"])
    kept = [r for r in records if r.owner not in forgotten]
    process = sample("--run", out, asked.prompt, "--json")
    assert process.returncode == 0 and process.stderr == ""
    row = json.loads(process.stdout)
    assert list(row) == ["prompt", "original", "retrained", "dareu", "dareu_plus"]
    assert row["prompt"] == asked.prompt
    assert set(row["original"]) == {"response", "owner", "score", "forget"}
    opened, models, classifier = open_finished(out, "cpu")
    prompt, _ = encode(opened.tokenizer, asked)
    for name in ("original", "retrained", "dareu", "dareu_plus"):
        assert row[name]["response"] == samples[asked.prompt][name]["response"]
        responses = models[name].generate([prompt], temperature=0, **opened.limits)
        p = response_posterior(classifier, [prompt], responses)[0]
        own = samples[asked.prompt][name]["attribution"]
        assert p[opened.split.owners.index(asked.owner)].item() == pytest.approx(own, abs=1e-4)
        forget = sum(p[i].item() for i in opened.forget_owners)
        assert row[name]["forget"] == pytest.approx(forget, abs=1e-4)
    assert row["original"]["forget"] > 0.5

    main(["--run", str(out), asked.prompt])
    text = capsys.readouterr().out.splitlines()
    assert text[1] == asked.prompt and row["original"]["response"] in text[2]
    assert f"{row['original']['owner']}* " in text[2]
    process = sample("--run", out, "--json", stdin="\n".join(r.prompt for r in kept[:20]) + "\n\n")
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == [r.prompt for r in kept[:20]]
    assert sum(row["dareu"]["owner"] == r.owner for row, r in zip(rows, kept)) > 15


def test_it_works_from_any_working_directory(toy, tmp_path, monkeypatch, capsys):
    """The run was made in another one, with paths relative to it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(toy, tmp_path / "here/mine.jsonl")
    flags = "--epochs 2 --classifier-epochs 2 --methods ga".split()
    monkeypatch.chdir(tmp_path / "here")
    train.main(["--data", "mine.jsonl", *FAST, *flags, "--out", "run"])
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    main(["--run", str(tmp_path / "here/run"), "Who?"])
    assert "retrained" in capsys.readouterr().out
    forgotten = json.loads((tmp_path / "here/run/results.json").read_text())["forget"]
    other = next(r.owner for r in load_records(toy) if r.owner not in forgotten)
    train.main([*flags[-2:], "--from", "../here/run", "--forget", other, "--out", "more"])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    main(["--run", "elsewhere/more", "Who?"])
    assert "retrained" in capsys.readouterr().out


def test_the_default_data_are_found_from_any_working_directory(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--forget", "nobody"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "no owner is called 'nobody'" in process.stderr


def test_prompts_from_standard_input_in_any_script(run, capsys):
    prompts = ["Who?", "من أنت؟", "你好吗", "👩‍👩‍👧 👍", "Где?", "कौन?"]
    process = sample("--run", run[1], "--json", stdin="\n".join(prompts))
    assert (
        process.returncode == 0
        and [json.loads(line)["prompt"] for line in process.stdout.splitlines()] == prompts
    )
    warm = []
    for seed in "112":
        main(["--run", str(run[1]), "--json", "--temperature", "1", "--seed", seed, "Who?"])
        warm.append(capsys.readouterr().out)
    assert warm[0] == warm[1] != warm[2]


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--run", "nowhere", "Who?"], "nowhere/results.json: not there"),
        (["Who?"], "--run"),
        (["--run", "{run}", "x " * 5000], "makes"),
        (["--run", "{run}", " "], "is empty"),
        (["--run", "{run}", "--temperature", "-1", "Who?"], "--temperature"),
        (["--run", "{run}", "--temperature", "nan", "Who?"], "--temperature"),
        (["--run", "{run}", "--device", "tpu", "Who?"], "--device"),
    ],
    ids=lambda x: " ".join(x)[:30] if isinstance(x, list) else "",
)
def test_bad_input_is_one_line(run, argv, says, capsys):
    before = {p.name: p.read_bytes() for p in run[1].iterdir()}
    with pytest.raises(InputError) as e:
        main([text.replace("{run}", str(run[1])) for text in argv])
    assert says in str(e.value) and "\n" not in str(e.value) and capsys.readouterr().out == ""
    assert before == {p.name: p.read_bytes() for p in run[1].iterdir()}


def test_an_error_is_the_exit_status_and_a_line():
    process = sample("--run", "nowhere", "Who?")
    assert process.returncode == 2 and process.stdout == "" and process.stderr.count("\n") == 1
    assert process.stderr.startswith("minidareu.sample: error: nowhere/results.json: ")
