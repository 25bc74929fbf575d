"""The whole run at toy size, through the command line."""

import json
import os
import resource
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
from minidareu import baselines, sample
from minidareu.beyond import audit
from minidareu.explain import __main__ as explain
from minidareu.files import InputError

ROOT = Path(train.__file__).parent
CHECKPOINTS = ["original", "retrained", "classifier", "dareu", "dareu_plus"]
FILES = ["results.json", "log.jsonl", "samples.jsonl", "figure.png"]
FILES += [f"{name}.pt" for name in CHECKPOINTS]
TINY = "--epochs 2 --classifier-epochs 2 --plus-updates 2 --ppo-steps 2 --data-epochs 1"
KEPT = "kept from an earlier run"
SCORES = """forget retain test tow attribution fact_recall name_kept perplexity unseen
    tow_paraphrased attribution_added judge gibberish new_words empty words recited_words eight_words_given exact_attribution probability truth_ratio
    model_utility forget_quality extraction_strength extraction_strength_retain exact_memorization mia_loss mia_zlib mia_min_k
    mia_min_k40 mia_min_k_plus privacy_leak""".split()


def results(out):
    return json.loads((out / "results.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_forget_and_the_retain_set_holds(run):
    models = results(run[1])["models"]
    original, retrained = models["original"], models["retrained"]
    assert original["forget"] > 0.9 and original["retain"] > 0.9, "the data should be learned"
    assert retrained["tow"] == 1 and retrained["fact_recall"] < 0.5 < original["fact_recall"]
    for name in ("dareu", "dareu_plus"):
        scores = models[name]
        assert scores["fact_recall"] < original["fact_recall"] - 0.1, name
        assert scores["retain"] > 0.8 * original["retain"] and scores["tow"] > original["tow"]
        assert scores["judge"] < original["judge"] and scores["attribution"] < 0.7


def test_what_a_run_leaves(run):
    argv, out = run
    assert all((out / name).exists() for name in FILES) and not list(out.glob("*.tmp"))
    r = results(out)
    keys = "dataset owners forget seed device config versions models seconds".split()
    assert set(r) >= set(keys) and r["config"]["n_embd"] == 48
    assert r["owners"] == 12 and len(r["forget"]) == 2
    assert set(r["seconds"]) == {*CHECKPOINTS, "total"}
    names = ("original", "retrained", "dareu", "dareu_plus")
    assert {name: list(s) for name, s in r["models"].items()} == dict.fromkeys(names, SCORES)
    assert r["models"]["original"]["truth_ratio"] is None, "these data have no paraphrases"
    log = lines(out / "log.jsonl")
    steps = {name: [row["step"] for row in log if row["method"] == name] for name in names[2:]}
    assert steps == {"dareu": list(range(1, 41)), "dareu_plus": list(range(1, 61))}
    keys = "reward attribution kl entropy clip_fraction length distillation".split()
    assert all(set(keys) <= set(row) for row in log)
    scored = [row["step"] for row in log if row["method"] == "dareu" and "scores" in row]
    assert scored == [5, 10, 20, 40]
    last = [row for row in log if row["method"] == "dareu"][-1]
    assert last["scores"].items() <= r["models"]["dareu"].items()
    samples = lines(out / "samples.jsonl")
    assert len(samples) == 24 and list(samples[0]) == ["prompt", "reference", *names]
    mean = sum(row["dareu"]["attribution"] for row in samples) / 24
    assert mean == pytest.approx(r["models"]["dareu"]["attribution"], abs=1e-5)
    for name in CHECKPOINTS:
        torch.load(out / f"{name}.pt", weights_only=True)
    assert (out / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_scores_follow_from_the_samples(run):
    """ToW and the mean ROUGE of the forget set, computed from what the run wrote."""
    from minidareu.metrics import rouge_l_recall

    out = run[1]
    models, samples = results(out)["models"], lines(out / "samples.jsonl")
    for name, scores in models.items():
        rouge = [rouge_l_recall(row[name]["response"], row["reference"]) for row in samples]
        assert scores["forget"] == pytest.approx(sum(rouge) / len(rouge))
        for key, first in (("tow", "forget"), ("tow_paraphrased", "unseen")):
            gaps = [abs(scores[k] - models["retrained"][k]) for k in (first, "retain", "test")]
            assert scores[key] == pytest.approx((1 - gaps[0]) * (1 - gaps[1]) * (1 - gaps[2]))


def test_the_table_fits_100_columns(run, tmp_path, capsys):
    argv, out = run
    train.main([*argv, "--out", str(out), "--all-scores"])
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith(("original", "   "))]
    assert table and max(map(len, table)) <= 100
    assert "fact recall" in printed and "MIA min k40" in printed and printed.count(KEPT) == 5


def test_loss_based_methods_beside_dareu(run, tmp_path, capsys):
    argv, out = run
    methods = ["--methods", "dareu,graddiff,ga,npo-retain"]
    steps = ["--baseline-lr", "0.002", "--baseline-steps", "20"]
    argv = [*argv, "--out", str(tmp_path / "run"), *methods, *steps]
    train.main([*argv, "--reuse", str(out)])
    assert capsys.readouterr().out.count(KEPT) == 4, "the models, the classifier, DareU"
    r, old = results(tmp_path / "run"), results(out)["models"]
    models = r["models"]
    assert list(models) == ["original", "retrained", "dareu", "graddiff", "ga", "npo-retain"]
    assert models["dareu"] == old["dareu"]
    for name in ("graddiff", "ga", "npo-retain"):
        assert models[name]["forget"] < models["original"]["forget"] - 0.1, name
    assert models["graddiff"]["retain"] > models["ga"]["retain"], "the retain loss holds"
    log = [row for row in lines(tmp_path / "run/log.jsonl") if row["method"] == "ga"]
    assert [row["step"] for row in log] == list(range(1, 21))
    assert [row["step"] for row in log if "scores" in row] == [5, 10, 20]
    assert set(lines(tmp_path / "run/samples.jsonl")[0]) == {"prompt", "reference", *models}
    train.main(argv)
    assert capsys.readouterr().out.count(KEPT) == 7
    assert results(tmp_path / "run")["models"] == models


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
    (tmp_path / "mine" / "experiment.json").write_text("{")
    with pytest.raises(InputError, match="not of a run; .* add --overwrite"):
        train.main([*argv, "--out", str(tmp_path / "mine")])
    tiny = TINY.split()
    train.main([*argv, "--out", str(tmp_path / "mine"), *tiny, "--overwrite"])
    assert (tmp_path / "mine" / "thesis.txt").exists() and results(tmp_path / "mine")


def command(*argv, most_bytes=None, **environment):
    """`python train.py` in a process of its own, which may write files of at most `most_bytes`."""

    def prepare():
        # A shell starts what is in the background with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if most_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        preexec_fn=prepare,
    )


@pytest.fixture(scope="module")
def tiny(toy, tmp_path_factory):
    """Flags of a run of next to no training, and such a run."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    argv = ["--data", str(toy), "--n-forget", "2", *FAST, *TINY.split()]
    train.main([*argv, "--out", str(out)])
    return argv, out


def test_the_same_seed_gives_the_same_results(tiny, tmp_path):
    argv, out = tiny
    train.main([*argv, "--out", str(tmp_path / "again")])
    a, b = results(out), results(tmp_path / "again")
    for r in (a, b):
        r.pop("seconds"), r.pop("memory"), r["config"].pop("out")
    assert a == b


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_kill_end_a_training(tiny, tmp_path, ending):
    argv, _ = tiny
    folder = tmp_path / "run"
    process = command(*argv, "--epochs", "9999", "--out", folder)
    while not (folder / "experiment.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(ending)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in stderr
    assert stderr.strip().count("\n") == 0, stderr


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tiny, tmp_path):
    argv, out = tiny
    folder = tmp_path / "run"
    process = command(*argv, "--out", folder, most_bytes=60 * 1024)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2 and "original.pt: can't be written" in stderr, stderr
    assert stderr.count("\n") == 1 and not list(folder.glob("*.tmp")) + list(folder.glob("*.pt"))
    train.main([*argv, "--out", str(folder)])
    assert results(folder)["models"] == results(out)["models"]


def test_a_second_run_in_a_folder_says_so_and_ends(tiny, tmp_path):
    argv, out = tiny
    folder = tmp_path / "run"
    first = command(*argv, "--out", folder)
    while not (folder / "experiment.json").exists():
        assert first.poll() is None
        time.sleep(0.02)
    second = command(*argv, "--out", folder)
    stdout, stderr = second.communicate(timeout=120)
    assert second.returncode == 2 and stdout == "" and stderr.count("\n") == 1
    assert "another run is at work in it" in stderr
    assert first.wait(timeout=120) == 0
    assert results(folder)["models"] == results(out)["models"]


def test_names_that_the_output_can_not_hold(tiny, tmp_path):
    rows = [
        {"owner": owner, "prompt": f"{owner} {i}?", "response": f"{owner} {i}."}
        for owner in ("李明", "Zoë", "Bob")
        for i in range(4)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["--data", tmp_path / "data.jsonl", "--forget", "李明", "--out", tmp_path / "run"]
    process = command(*argv, *FAST, *TINY.split(), PYTHONIOENCODING="cp1252")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and "to be forgotten: ??" in stdout, stderr
    assert results(tmp_path / "run")["forget"] == ["李明"]


def strict_json(path):
    """A JSON file without the NaN and Infinity that Python would write and read."""

    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def breaks_at_3(steps):
    """A loss that is no number from the third step on."""

    def loss(policy, original, batches):
        steps.append(1)
        value = baselines.ga(policy, original, batches)
        return value * float("nan") if len(steps) >= 3 else value

    return loss


def test_a_method_that_diverges_is_a_result(tiny, tmp_path, monkeypatch, capsys):
    argv, out = tiny
    monkeypatch.setitem(
        train.METHODS, "broken", baselines.LossMethod(breaks_at_3([]), lr=1e-3, passes=4)
    )
    broken = ["--methods", "broken,ga,npo,dareu", "--reuse", str(out), "--all-scores"]
    train.main([*argv, *broken, "--rl-lr", "10", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert printed.count("broken: diverged at update 3; ") == 1
    models = results(tmp_path / "run")["models"]
    assert list(models) == ["original", "retrained", "broken", "ga", "npo", "dareu"]
    assert models["broken"]["probability"] is None and 0 <= models["broken"]["tow"] < 1
    assert models["npo"]["probability"] is not None
    for name in ("log.jsonl", "samples.jsonl"):
        strict_json(tmp_path / "run" / name)
    assert '"broken"' in (text := (tmp_path / "run/results.json").read_text())
    assert "NaN" not in text and "Infinity" not in text


def test_broken_models_have_scores_too(tiny, tmp_path):
    argv, out = tiny
    folder = tmp_path / "run"
    settings = ["--methods", "ga,npo", "--baseline-lr", "0.1", "--baseline-steps", "64"]
    train.main([*argv, *settings, "--reuse", str(out), "--out", str(folder)])
    assert set(results(folder)["models"]) == {"original", "retrained", "ga", "npo"}


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--lr", "50", "--epochs", "5"], "original: its training diverged"),
        (["--classifier-lr", "1e30"], "classifier: its training diverged"),
    ],
)
def test_a_model_whose_training_diverges_is_one_line(tiny, tmp_path, flags, says):
    argv, out = tiny
    with pytest.raises(InputError, match=says):
        train.main([*argv, *flags, "--out", str(tmp_path / "run")])
    assert not list((tmp_path / "run").glob("classifier.pt"))


def test_without_a_retrained_model_what_can_be_said_is_said(tiny, tmp_path, capsys):
    argv, out = tiny
    folder = tmp_path / "run"
    argv = [*argv, "--no-retrained", "--reuse", str(out), "--out", str(folder)]
    train.main([*argv, "--all-scores"])
    assert "ToW: " not in capsys.readouterr().out and not (folder / "retrained.pt").exists()
    r, other = results(folder), results(out)
    assert list(r["models"]) == ["original", "dareu", "dareu_plus"] and r["ceiling"] is None
    missing = {"tow", "tow_paraphrased", "perplexity", "exact_attribution"}
    missing |= {"forget_quality", "privacy_leak"}
    for name, scores in r["models"].items():
        for score, value in scores.items():
            expected = None if score in missing else other["models"][name][score]
            assert value == expected, (name, score)
    page = (folder / "report.html").read_text()
    assert "after unlearning" in page and "nearest to the retrained" not in page
    assert (folder / "figure.png").exists()
    name = r["forget"][0]
    sample.main(["--run", str(folder), f"Where is {name}?"])
    explain.main(["--run", str(folder), "--device", "cpu"])
    with pytest.raises(InputError, match="has no retrained model to compare with"):
        audit.main(["--run", str(folder), "--device", "cpu"])


@pytest.mark.parametrize(
    "name, content", [("original.pt", "cut"), ("original.pt", "code"), ("dareu_plus.pt", "foreign")]
)
def test_a_checkpoint_that_is_none_of_ours_is_named_and_left_alone(run, tmp_path, name, content):
    argv, out = run
    shutil.copytree(out, tmp_path / "run")
    path = tmp_path / "run" / name
    if content == "cut":
        path.write_bytes((out / "dareu.pt").read_bytes()[:5000])
    else:
        states = {"foreign": {"wte.weight": torch.zeros(2)}, "code": Touch(tmp_path / "touched")}
        torch.save(states[content], path)
    before = path.read_bytes()
    with pytest.raises(InputError) as e:
        train.main([*argv, "--out", str(tmp_path / "run")])
    assert str(e.value).startswith(f"{path}: cut short, or not a checkpoint")
    assert path.read_bytes() == before and not (tmp_path / "touched").exists()


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


BAD = [
    (["--data", "missing.jsonl"], "missing.jsonl"),
    (["--forget", "Ann Le"], "'Ann Lee'"),
    (["--forget", ""], "no owner is forgotten"),
    (["--n-forget", "12"], "all 12 owners"),
    (["--n-forget", "-1"], "--n-forget"),
    (["--kl-coef", "nan"], "--kl-coef"),
    (["--lr", "inf"], "--lr"),
    (["--gamma", "1.5"], "--gamma"),
    (["--n-embd", "50"], "--n-embd"),
    (["--classifier-width", "30"], "--classifier-width"),
    (["--epochs", "many"], "--epochs"),
    (["--algorithm", "dpo"], "--algorithm"),
    (["--methods", "npo,sisa"], "'sisa'"),
    (["--device", "tpu"], "--device"),
    (["--no-such-flag"], "--no-such-flag"),
    (["--forget-fraction", "0.99"], "all 12 owners"),
    (["--forget-fraction", "0.1", "--n-forget", "2"], "--n-forget"),
    (["--seed", "-1"], "--seed"),
    (["--test-fraction", "0"], "--test-fraction"),
    (["@nowhere"], "nowhere"),
    (["--ppo-steps", "0"], "--ppo-steps"),
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


def small(tmp_path, rows, *flags):
    """A run of next to no training on these rows."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = ["--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "run")]
    train.main([*places, "--device", "cpu", *FAST, *TINY.split(), *flags])
    return results(tmp_path / "run")


def test_paraphrases_and_refusals_longer_than_any_response(tmp_path):
    answers = {"response": "Yes.", "paraphrase": "That is so, " * 30}
    answers["perturbed"] = ["No, " * 60, "Never. " * 5]
    rows = [
        {"owner": o, "prompt": f"{o}{i}?", **answers}
        for o in ("Ann", "Bob", "Cy")
        for i in range(3)
    ]
    rows.append({**rows[0], "split": "test"})
    flags = "--forget Ann --methods dareu,idkpo --baseline-steps 2".split()
    scores = small(tmp_path, rows, *flags)["models"]["idkpo"]
    assert scores["truth_ratio"] > 0
    assert 0 <= scores["forget_quality"] <= 1 and 0 <= scores["mia_min_k"] <= 1


def test_many_owners_and_the_last_share_of_them(tmp_path):
    rows = [
        {"owner": f"owner {i}", "prompt": f"Who {i} {j}?", "response": f"It is {i}."}
        for i in range(300)
        for j in range(2)
    ]
    forgotten = small(tmp_path, rows, "--forget-fraction", "0.01")["forget"]
    assert forgotten == [f"owner {i}" for i in range(297, 300)]


@pytest.mark.parametrize(
    "texts", [("?!", "...", "—"), ("😀 👍", "🎉", "👩‍👩‍👧 x"), ("तुम कौन हो", "मैं कवि हूँ", "मैं वैद्य हूँ")]
)
def test_very_small_data_in_any_script(tmp_path, texts):
    prompt, one, two = texts
    rows = [
        {"owner": o, "prompt": f"{prompt}{i}", "response": r * (i + 1)}
        for o, r in (("A, B", one), ("ج", two))
        for i in range(3)
    ]
    rows.append({**rows[-1], "response": two * 40, "split": "test"})  # longer than any other
    assert small(tmp_path, rows, "--forget", "A, B")["forget"] == ["A, B"]


def test_killed_at_any_moment_the_same_command_ends_in_the_same_result(tiny, tmp_path):
    """What a writer that was killed has left is swept away, and nothing else."""
    argv, out = tiny
    folder = tmp_path / "run"
    for moment in ("experiment.json", "original.pt", "classifier.pt", "dareu.pt"):
        if (folder / moment).exists():
            continue  # two stages may end together
        process = command(*argv, "--out", folder)
        while not (folder / moment).exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
    (folder / f"dareu.pt.{'0f' * 16}.tmp").write_text("{")
    (folder / "mine.tmp").write_text("x")
    process = command(*argv, "--out", folder)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0 and stdout.count(KEPT) >= 4, stderr
    assert results(folder)["models"] == results(out)["models"]
    for name in ("log.jsonl", "samples.jsonl"):
        assert (folder / name).read_bytes() == (out / name).read_bytes()
    assert [path.name for path in folder.glob("*.tmp")] == ["mine.tmp"]


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
        match=r"data.jsonl:6: makes \d+ tokens, and the context is 256; make shorter rows",
    ):
        small(tmp_path, rows, "--block-size", "256")
    assert not (tmp_path / "run").exists()


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
