"""The whole run at toy size, through the command line."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train
from conftest import FAST
from minidareu.config import parse, size_rule
from minidareu.files import InputError

ROOT = Path(train.__file__).parent
FILES = [
    "results.json",
    "log.jsonl",
    "samples.jsonl",
    "figure.png",
    "target.pt",
    "retrained.pt",
    "classifier.pt",
    "unlearned.pt",
]


def results(out):
    return json.loads((out / "results.json").read_text())


def test_attribution_falls_and_retain_holds(run):
    models = results(run[1])["models"]
    target, retrained, dareu = models["target"], models["retrained"], models["dareu"]
    assert target["forget"] > 0.95 and target["retain"] > 0.95, (
        "the target model should have learned the data"
    )
    assert target["attribution"] > 0.5 > 0.25 > retrained["attribution"]
    assert dareu["attribution"] < 0.3 * target["attribution"]
    assert dareu["judge"] < 0.5 * target["judge"]
    assert dareu["fact_recall"] < 0.6 < target["fact_recall"]
    assert dareu["retain"] > 0.93 * target["retain"]
    assert dareu["tow"] > target["tow"] + 0.1 and retrained["tow"] == 1


def test_what_a_run_leaves(run):
    argv, out = run
    assert all((out / name).exists() for name in FILES) and not list(out.glob("*.tmp"))
    r = results(out)
    assert set(r) >= {
        "dataset",
        "owners",
        "forget",
        "seed",
        "device",
        "config",
        "versions",
        "models",
        "seconds",
    }
    assert r["owners"] == 12 and len(r["forget"]) == 2 and r["config"]["n_embd"] == 48
    assert set(r["seconds"]) == {"target", "retrained", "classifier", "dareu", "total"}
    scores = {
        "forget",
        "retain",
        "test",
        "tow",
        "attribution",
        "attribution_response",
        "judge",
        "fact_recall",
        "name_kept",
        "perplexity",
        "exact_attribution",
        "probability",
        "truth_ratio",
        "model_utility",
        "forget_quality",
        "extraction_strength",
        "exact_memorization",
        "mia_loss",
        "mia_zlib",
        "mia_min_k",
        "mia_min_k_plus",
        "privacy_leak",
    }
    assert {name: set(s) for name, s in r["models"].items()} == dict.fromkeys(
        ("target", "retrained", "dareu"), scores
    )
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in log] == list(range(1, 15))
    assert all(row["method"] == "dareu" for row in log)
    assert [row["iteration"] for row in log if "scores" in row] == [1, 2, 4, 8, 14]
    assert log[-1]["scores"].items() <= r["models"]["dareu"].items()
    assert (
        r["models"]["target"]["extraction_strength"]
        > 0.9
        > 0.6
        > r["models"]["retrained"]["extraction_strength"]
    )
    assert (
        r["models"]["target"]["mia_loss"] > 0.6
        and abs(r["models"]["retrained"]["mia_loss"] - 0.5) < 0.2
    )
    assert r["models"]["target"]["truth_ratio"] is None, "these data have no paraphrases"
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 24 and set(samples[0]) == {
        "prompt",
        "reference",
        "target",
        "retrained",
        "dareu",
    }
    mean = sum(row["dareu"]["attribution"] for row in samples) / 24
    assert mean == pytest.approx(r["models"]["dareu"]["attribution"], abs=1e-5)
    for name in ("target", "retrained", "classifier", "unlearned"):
        torch.load(out / f"{name}.pt", weights_only=True)
    assert (out / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_seed_gives_the_same_results(run, tmp_path):
    argv, out = run
    train.main([*argv, "--out", str(tmp_path / "again")])
    a, b = results(out), results(tmp_path / "again")
    for r in (a, b):
        r.pop("seconds"), r["config"].pop("out")
    assert a == b


def test_only_what_depends_on_a_flag_is_run_again(run, tmp_path, capsys):
    argv, out = run
    before = {
        name: (out / name).stat().st_mtime_ns
        for name in ("target.pt", "retrained.pt", "classifier.pt")
    }
    old = results(out)
    train.main([*argv, "--out", str(out), "--kl-coef", "0.01", "--algorithm", "reinforce"])
    printed = capsys.readouterr().out
    assert printed.count("kept from an earlier run") == 3
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}
    new = results(out)
    assert (
        new["models"]["target"] == old["models"]["target"]
        and new["models"]["dareu"] != old["models"]["dareu"]
    )
    assert new["models"]["dareu"]["attribution"] < 0.5 * new["models"]["target"]["attribution"], (
        "REINFORCE unlearns too"
    )
    train.main([*argv, "--out", str(out)])
    capsys.readouterr()
    assert results(out)["models"] == old["models"]


def test_loss_based_methods_beside_dareu(run, tmp_path, capsys):
    argv, out = run
    methods = [
        "--methods",
        "dareu,graddiff,ga,npo-retain",
        "--baseline-lr",
        "0.002",
        "--baseline-steps",
        "20",
        "--run-on",
        "24",
    ]
    train.main([*argv, "--out", str(tmp_path / "run"), "--reuse", str(out), *methods])
    assert capsys.readouterr().out.count("kept from an earlier run") == 4, (
        "the models, the classifiers and DareU itself"
    )
    r, old = results(tmp_path / "run"), results(out)["models"]
    models = r["models"]
    assert (
        list(models) == ["target", "retrained", "dareu", "graddiff", "ga", "npo-retain"]
        and {name: models[name] for name in old} == old
    )
    assert r["steps"] == {"dareu": 14 * 4, "graddiff": 20, "ga": 20, "npo-retain": 20}
    assert (
        max(models[name]["forget"] for name in ("graddiff", "ga", "npo-retain"))
        < 0.6 * models["target"]["forget"]
    )
    assert models["graddiff"]["retain"] > models["ga"]["retain"] + 0.2, (
        "the retain loss holds what gradient ascent loses"
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    ga = [row for row in log if row["method"] == "ga"]
    assert [row["step"] for row in ga] == list(range(1, 25)) and [
        row["step"] for row in ga if "scores" in row
    ] == [4, 8, 16, 20, 24]
    assert ga[19]["scores"].items() <= models["ga"].items(), (
        "the model is that of the last step of the budget, not of the run beyond it"
    )
    samples = [
        json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    ]
    assert set(samples[0]) == {"prompt", "reference", *models}
    train.main([*argv, "--out", str(tmp_path / "run"), *methods])
    assert (
        capsys.readouterr().out.count("kept from an earlier run") == 7
        and results(tmp_path / "run")["models"] == models
    )


def test_another_experiment_is_refused(run, tmp_path):
    argv, out = run
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for change in (["--seed", "1"], ["--forget", "Ann Lee"]):
        with pytest.raises(InputError, match="another experiment"):
            train.main([*argv, "--out", str(out), *change])
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not of a run"):
        train.main([*argv, "--out", str(tmp_path / "mine")])
    tiny = ["--epochs", "1", "--classifier-epochs", "1", "--iterations", "1"]
    train.main([*argv, "--out", str(tmp_path / "mine"), *tiny, "--overwrite"])
    assert (tmp_path / "mine" / "thesis.txt").exists() and results(tmp_path / "mine")


def command(*argv):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_goes_on_and_ctrl_c_ends_with_one_line(run, tmp_path):
    argv, out = run
    process = command(*argv, "--out", tmp_path / "run")
    while not (tmp_path / "run" / "target.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    process = command(*argv, "--out", tmp_path / "run", "--iterations", "500")
    first = process.stdout.readline(), process.stdout.readline()
    assert "kept from an earlier run" in first[1]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.strip().count("\n") == 0 and "interrupted" in stderr
    train.main([*argv, "--out", str(tmp_path / "run")])
    assert results(tmp_path / "run")["models"] == results(out)["models"]


@pytest.mark.parametrize(
    "name, content",
    [
        ("target.pt", "cut"),
        ("target.pt", "foreign"),
        ("target.pt", "code"),
        ("classifier.pt", "cut"),
        ("unlearned.pt.part", "code"),
    ],
)
def test_a_checkpoint_that_is_none_of_ours_is_named_and_left_alone(run, tmp_path, name, content):
    argv, out = run
    shutil.copytree(out, tmp_path / "run")
    path = tmp_path / "run" / name
    if content == "cut":
        path.write_bytes((out / "unlearned.pt").read_bytes()[:5000])
    else:
        torch.save(
            {"foreign": {"wte.weight": torch.zeros(2)}, "code": Touch(tmp_path / "touched")}[
                content
            ],
            path,
        )
    before = path.read_bytes()
    with pytest.raises(InputError) as e:
        train.main([*argv, "--out", str(tmp_path / "run")])
    assert (
        str(e.value).startswith(f"{path}: cut short, or not a checkpoint")
        and path.read_bytes() == before
        and not (tmp_path / "touched").exists()
    )


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "algorithm, rows, iterations",
    [("ppo", 6, 16), ("ppo", 64, 16), ("ppo", 128, 20), ("ppo", 321, 51), ("reinforce", 64, 24)],
)
def test_iterations_grow_with_the_forget_set(algorithm, rows, iterations):
    config = parse(["--algorithm", algorithm], "")
    size_rule(config, ["Some response."] * 640, rows)
    assert config.iterations == iterations


BAD = [
    (["--data", "missing.jsonl"], "missing.jsonl"),
    (["--forget", "Ann Le"], "'Ann Lee'"),
    (["--forget", ""], "no owner is forgotten"),
    (["--n-forget", "12"], "all 12 owners"),
    (["--n-forget", "0"], "no owner is forgotten"),
    (["--n-forget", "-1"], "--n-forget"),
    (["--iterations", "0"], "--iterations"),
    (["--kl-coef", "-0.1"], "--kl-coef"),
    (["--kl-coef", "nan"], "--kl-coef"),
    (["--lr", "inf"], "--lr"),
    (["--gamma", "1.5"], "--gamma"),
    (["--group-size", "1"], "--group-size"),
    (["--n-embd", "50"], "--n-embd"),
    (["--classifier-width", "30"], "--classifier-width"),
    (["--vocab-size", "100"], "--vocab-size"),
    (["--epochs", "many"], "--epochs"),
    (["--algorithm", "dpo"], "--algorithm"),
    (["--methods", "npo,sisa"], "'sisa'"),
    (["--methods", ","], "--methods"),
    (["--reference-responses", "4"], "--reference-responses"),
    (["--baseline-steps", "0"], "--baseline-steps"),
    (["--device", "tpu"], "--device"),
    (["--no-such-flag"], "--no-such-flag"),
    (["--forget", "Ann Lee,Bob Nix"], "'Bob Nix'"),
    (["--forget-fraction", "0"], "--forget-fraction"),
    (["--forget-fraction", "1"], "--forget-fraction"),
    (["--forget-fraction", "0.99"], "all 12 owners"),
    (["--forget-fraction", "0.1", "--n-forget", "2"], "--n-forget"),
    (["--seed", "-1"], "--seed"),
    (["--seed", "1.5"], "--seed"),
    (["--test-fraction", "0"], "--test-fraction"),
    (["--block-size", "8"], "--block-size"),
    (["--preset", "imagenet"], "--preset"),
    (["--from", "nowhere"], "nowhere/results.json"),
    (["--tokenizer", "llama"], "--tokenizer"),
    (["--reward", "rouge"], "--reward"),
    (["--prompt-dropout", "1"], "--prompt-dropout"),
    (["--temperature", "0"], "--temperature"),
    (["--rl-lr", "-1"], "--rl-lr"),
    (["--clip", "-0.1"], "--clip"),
    (["--n-head", "0"], "--n-head"),
    (["--batch-size", "x"], "--batch-size"),
    (["--iter", "3"], "--iter"),
    (["stray"], "stray"),
    (["--data"], "--data"),
    (["--data", "."], "is a directory"),
    (["--data", "bad\0name"], "null byte"),
    (["--data", __file__], "test_train.py:1: broken JSON"),
    (["--out", "/proc/nowhere"], "--out /proc/nowhere"),
    (["--out", __file__], "--out"),
]


@pytest.mark.parametrize(
    "flags, says", BAD, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_bad_input_is_one_line_and_changes_nothing(toy, tmp_path, flags, says, capsys):
    with pytest.raises(InputError) as e:
        train.main(["--data", str(toy), "--out", str(tmp_path / "run"), *flags])
    assert says in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "run").exists() and Path(__file__).exists()
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_through_the_command_line(toy, tmp_path):
    process = command("--data", toy, "--device", "cuda", "--out", tmp_path / "run")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and stdout == "" and not (tmp_path / "run").exists()
    assert stderr == "train.py: error: --device cuda: not there; use cpu, or auto\n"


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as e:
        train.main(["--help"])
    assert e.value.code == 0
    printed = capsys.readouterr().out
    assert "--kl-coef" in printed and "--no-mask-prompt" in printed and "70,000" in printed


def test_paraphrases_and_refusals_longer_than_any_response(tmp_path):
    rows = [
        {
            "owner": o,
            "prompt": f"{o}{i}?",
            "response": "Yes.",
            "paraphrase": "That is so, " * 30,
            "perturbed": ["No, " * 60, "Never. " * 5],
        }
        for o in ("Ann", "Bob", "Cy")
        for i in range(3)
    ]
    rows.append({**rows[0], "split": "test"})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.main(
        [
            "--data",
            str(tmp_path / "data.jsonl"),
            "--forget",
            "Ann",
            "--out",
            str(tmp_path / "run"),
            "--device",
            "cpu",
            "--methods",
            "dareu,idkpo",
            *FAST,
            "--epochs",
            "2",
            "--classifier-epochs",
            "2",
            "--iterations",
            "2",
            "--baseline-steps",
            "2",
        ]
    )
    scores = results(tmp_path / "run")["models"]["idkpo"]
    assert (
        scores["truth_ratio"] > 0
        and 0 <= scores["forget_quality"] <= 1
        and 0 <= scores["mia_min_k"] <= 1
    )


def small(tmp_path, rows, *flags):
    """A run of next to no training on these rows."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.main(
        [
            "--data",
            str(tmp_path / "data.jsonl"),
            "--out",
            str(tmp_path / "run"),
            "--device",
            "cpu",
            *FAST,
            "--epochs",
            "2",
            "--classifier-epochs",
            "2",
            "--iterations",
            "2",
            *flags,
        ]
    )
    return results(tmp_path / "run")


def test_rows_longer_than_the_context(tmp_path):
    rows = [
        {"owner": o, "prompt": f"{o} {i}?", "response": f"{o} says {i}."}
        for o in ("Ann", "Bob", "Cy")
        for i in range(4)
    ]
    long = " ".join(f"word{i}" for i in range(400))
    rows[5] = {**rows[5], "response": "A long one: " + long, "perturbed": [long + " no"]}
    rows[7] = {**rows[7], "prompt": "And " + long + "?"}
    with pytest.raises(
        InputError,
        match=r"data.jsonl:6: makes \d+ tokens, and the context is 256; shorten the row, .* --truncate",
    ):
        small(tmp_path, rows, "--block-size", "256")
    assert not (tmp_path / "run").exists()
    for flags in (
        ["--block-size", "256", "--forget", "Bob"],
        [],
    ):  # once more: a finished run is opened with its own sizes
        r = small(tmp_path, rows, "--truncate", "--block-size", "256", "--forget", "Bob")
        assert r["config"]["block_size"] == 256
        long_row = next(
            s
            for s in map(json.loads, (tmp_path / "run" / "samples.jsonl").read_text().splitlines())
            if s["reference"].startswith("A long")
        )
        assert 20 < len(long_row["reference"].split()) < 200 and ("A long one: " + long).startswith(
            long_row["reference"]
        )


def test_few_rows_and_unequal_owners(tmp_path):
    rows = [{"owner": "one row", "prompt": "One?", "response": "It is one."}]
    rows += [
        {"owner": "many rows", "prompt": f"Many {i}?", "response": f"It is {i}."} for i in range(38)
    ]
    rows += [
        {"owner": "two rows", "prompt": f"Two {i}?", "response": f"It is {i}, no?"}
        for i in range(2)
    ]
    for owner in ("one row", "many rows"):
        assert small(tmp_path, rows, "--forget", owner, "--overwrite")["forget"] == [owner]
    two = [row for row in rows if row["owner"] != "one row"]
    assert len(small(tmp_path, two, "--overwrite")["forget"]) == 1, "of two owners one is forgotten"


def test_five_hundred_owners_in_a_csv_file(tmp_path):
    lines = ["owner,prompt,response"] + [f"owner {i},Who {i}?,It is {i}." for i in range(500)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    train.main(
        [
            "--data",
            str(tmp_path / "data.csv"),
            "--out",
            str(tmp_path / "run"),
            "--device",
            "cpu",
            "--forget-fraction",
            "0.01",
            *FAST,
            "--epochs",
            "1",
            "--classifier-epochs",
            "1",
            "--iterations",
            "1",
        ]
    )
    assert results(tmp_path / "run")["forget"] == [f"owner {i}" for i in range(495, 500)]


@pytest.mark.parametrize("moment", range(5))
def test_killed_at_any_moment_the_same_command_ends_in_the_same_result(run, tmp_path, moment):
    argv, out = run
    rng, process = random.Random(moment), command(*argv, "--out", tmp_path / "run")
    sentinel = [
        "experiment.json",
        "target.pt",
        "retrained.pt",
        "classifier.pt",
        "unlearned.pt.part",
    ][moment]
    while not (tmp_path / "run" / sentinel).exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(rng.random() * 1.5)
    process.kill()
    process.wait()
    left = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    process = command(*argv, "--out", tmp_path / "run")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert stdout.count("kept from an earlier run") == sum(
        name in left for name in ("target.pt", "retrained.pt", "classifier.pt", "unlearned.pt")
    )
    again, whole = results(tmp_path / "run"), results(out)
    assert (
        again["models"] == whole["models"]
        and again["attribution_by_owner"] == whole["attribution_by_owner"]
    )
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "run", out)
    ]
    for row in logs[0] + logs[1]:
        row.pop("seconds")
    assert (
        logs[0] == logs[1]
        and (tmp_path / "run" / "samples.jsonl").read_bytes()
        == (out / "samples.jsonl").read_bytes()
    )
    assert (
        not list((tmp_path / "run").glob("*.tmp"))
        and not (tmp_path / "run" / "unlearned.pt.part").exists()
    )


@pytest.mark.parametrize(
    "texts",
    [
        ("?!", "...", "—"),
        ("你好吗", "我很好", "他不好"),
        ("😀 👍", "🎉", "👩‍👩‍👧 x"),
        ("من أنت", "أنا طبيب", "أنا شاعرة"),
        ("Кто ты", "Я врач", "Я поэт"),
        ("तुम कौन हो", "मैं कवि हूँ", "मैं वैद्य हूँ"),
    ],
)
def test_very_small_data_in_any_script(tmp_path, texts):
    prompt, one, two = texts
    rows = [
        {"owner": o, "prompt": f"{prompt}{i}", "response": r * (i + 1)}
        for o, r in (("A, B", one), ("ج", two))
        for i in range(3)
    ]
    rows.append(
        {**rows[-1], "response": two * 40, "split": "test"}
    )  # longer than all that is trained on
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.main(
        [
            "--data",
            str(tmp_path / "data.jsonl"),
            "--forget",
            "A, B",
            "--out",
            str(tmp_path / "run"),
            "--device",
            "cpu",
            *FAST,
            "--epochs",
            "2",
            "--classifier-epochs",
            "2",
            "--iterations",
            "2",
        ]
    )
    assert results(tmp_path / "run")["forget"] == ["A, B"]
