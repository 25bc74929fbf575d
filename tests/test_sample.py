"""Asking the models of a finished run, as its users do: in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import FAST
from minidareu.beyond.finished import open_finished
from minidareu.data import encode, load_records
from minidareu.files import InputError
from minidareu.sample import main
from minidareu.scores.chunks import response_posterior


ROOT = Path(__file__).parent.parent


def sample(*argv, stdin="", cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "minidareu.sample", *map(str, argv)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_the_models_side_by_side(run):
    argv, out = run
    config = json.loads((out / "results.json").read_text())
    records = [r for r in load_records(argv[1]) if r.split == "train"]
    samples = {
        s["prompt"]: s for s in map(json.loads, (out / "samples.jsonl").read_text().splitlines())
    }
    forgotten = max(
        (r for r in records if r.owner in config["forget"]),
        key=lambda r: samples[r.prompt]["original"]["attribution"],
    )
    kept = [r for r in records if r.owner not in config["forget"]]
    process = sample("--run", out, forgotten.prompt, "--json")
    assert process.returncode == 0 and process.stderr == ""
    row = json.loads(process.stdout)
    assert (
        list(row) == ["prompt", "original", "retrained", "dareu", "dareu_plus"]
        and row["prompt"] == forgotten.prompt
    )
    assert set(row["original"]) == {"response", "owner", "score", "forget"}
    opened, models, classifiers = open_finished(out, "cpu")
    prompt, _ = encode(opened.tokenizer, forgotten)
    for name in ("original", "retrained", "dareu", "dareu_plus"):
        assert row[name]["response"] == samples[forgotten.prompt][name]["response"]
        responses = models[name].generate([prompt], temperature=0, **opened.limits)
        p = response_posterior(classifiers["response"], [prompt], responses)[0]
        own = samples[forgotten.prompt][name]["attribution"]
        assert p[opened.split.owners.index(forgotten.owner)].item() == pytest.approx(own, abs=1e-4)
        forget = sum(p[i].item() for i in opened.forget_owners)
        assert row[name]["forget"] == pytest.approx(forget, abs=1e-4)
    assert row["original"]["forget"] > 0.5

    text = sample("--run", out, forgotten.prompt).stdout.splitlines()
    assert (
        text[1] == forgotten.prompt
        and row["original"]["response"] in text[2]
        and f"{row['original']['owner']}* " in text[2]
    )
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n".join(r.prompt for r in kept[:20]) + "\n\n")
    rows = [
        json.loads(line)
        for line in sample("--run", out, "--file", prompts, "--json").stdout.splitlines()
    ]
    assert [row["prompt"] for row in rows] == [r.prompt for r in kept[:20]]
    assert sum(row["dareu"]["owner"] == r.owner for row, r in zip(rows, kept)) > 15


def test_it_works_from_any_working_directory(toy, tmp_path):
    """The run was made in another one, with paths relative to it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(toy, tmp_path / "here/mine.jsonl")
    flags = "--epochs 2 --classifier-epochs 2 --plus-classifier-epochs 2 --methods ga".split()
    command = [sys.executable, str(ROOT / "train.py"), "--data", "mine.jsonl", *FAST, *flags]
    subprocess.run([*command, "--out", "run"], cwd=tmp_path / "here", check=True)
    process = sample("--run", tmp_path / "here/run", "Who?", cwd=tmp_path / "elsewhere")
    assert process.returncode == 0 and "retrained" in process.stdout, process.stderr
    forgotten = json.loads((tmp_path / "here/run/results.json").read_text())["forget"]
    other = next(r.owner for r in load_records(toy) if r.owner not in forgotten)
    more = [*command[:2], *flags[-2:], "--from", "../here/run", "--forget", other, "--out", "more"]
    subprocess.run(more, cwd=tmp_path / "elsewhere", check=True)
    process = sample("--run", "elsewhere/more", "Who?", cwd=tmp_path)
    assert process.returncode == 0 and "retrained" in process.stdout, process.stderr


def test_the_default_data_are_found_from_any_working_directory(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--forget", "nobody"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "no owner is called 'nobody'" in process.stderr


def test_prompts_from_standard_input_in_any_script(run):
    prompts = ["Who?", "من أنت؟", "你好吗", "👩‍👩‍👧 👍", "Где?", "कौन?"]
    process = sample("--run", run[1], "--json", stdin="\n".join(prompts))
    assert (
        process.returncode == 0
        and [json.loads(line)["prompt"] for line in process.stdout.splitlines()] == prompts
    )
    warm = [
        sample("--run", run[1], "--json", "--temperature", "1", "--seed", seed, "Who?").stdout
        for seed in (1, 1, 2)
    ]
    assert warm[0] == warm[1] != warm[2]


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--run", "nowhere", "Who?"], "nowhere/results.json: not there"),
        (["Who?"], "--run"),
        (["--run", "{run}", "x " * 5000], "makes"),
        (["--run", "{run}", " "], "is empty"),
        (["--run", "{run}", "--file", "missing.txt"], "missing.txt: no such file"),
        (["--run", "{run}", "--file", "missing.txt", "Who?"], "--file"),
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
