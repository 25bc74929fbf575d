import json
from statistics import mean, median

import pytest

from minidareu import benchmark
from minidareu.baselines import METHODS
from minidareu.data import InputError

SCORES = dict(forget=0.5, retain=1.0, test=1.0, tow=1.0, attribution=0.02, attribution_response=0.3, judge=0.01, fact_recall=0.1, name_kept=0.9,
              perplexity=1.2, model_utility=0.8, forget_quality=1.0, mia_min_k=0.5, extraction_strength=0.2)
TOWS = {0: 0.91, 1: 0.97, 2: 0.93}


def finished(out, methods, tow):
    """What `train.py` leaves, as far as the benchmark reads it."""
    out.mkdir(parents=True)
    scores = {"dareu": {**SCORES, "tow": tow, "judge": 0.05, "perplexity": 1.8, "mia_min_k": 0.47}, "npo": {**SCORES, "tow": tow - 0.2}}
    models = {"target": {**SCORES, "tow": 0.6}, "retrained": SCORES, **{name: scores[name] for name in methods}}
    seconds = dict(target=20, retrained=20, classifier=10, dareu=8, total=70)
    steps = {"dareu": 128, "npo": 8}
    flags = ["--seed", out.name[-1], "--n-forget", "10" if out.name.startswith("forget10") else "2"]
    flags += ["--methods", ",".join(methods), "--run-on", "128"] if out.name.startswith("forget") else benchmark.SETTINGS[out.name[:-6].replace("ppo-", "ppo, ").replace("-", " ")]
    shared = out.with_name(f"forget2-seed{out.name[-1]}")
    (out / "command.json").write_text(json.dumps(["--out", str(out), "--data", str(benchmark.DATA), "--reuse", str(shared), *flags]))
    (out / "results.json").write_text(json.dumps({"models": models, "seconds": seconds, "steps": steps}))
    log = [{"method": name, "step": step, "scores": {**SCORES, "tow": scores[name]["tow"] + more}}
           for name in methods for step, more in ((4, 0.01), (8, 0.0), (16, -0.3), (128, -0.5 if name == "npo" else 0))]
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log) + json.dumps({"method": "npo", "step": 5}) + "\n")
    sample = {"prompt": "Who?", "reference": "Ann.", **{m: {"response": f"{m} said {out.name}"} for m in models}}
    (out / "samples.jsonl").write_text(json.dumps(sample) + "\n")


@pytest.fixture
def finished_runs(tmp_path):
    for seed, tow in TOWS.items():
        for n in (2, 10):
            finished(tmp_path / f"forget{n}-seed{seed}", ["dareu", "npo"], tow)
        for name in ("reinforce", "ppo-three-times-the-iterations", "ppo-whole-response"):
            finished(tmp_path / f"{name}-seed{seed}", ["dareu"], tow)
    return tmp_path


def cells(lines):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_tables_and_figures_of_finished_runs(finished_runs, capsys):
    benchmark.main(["--seeds", "0", "1", "2", "--sizes", "0.05", "0.25", "--methods", "dareu,npo", "--out", str(finished_runs)])
    text = (finished_runs / "benchmark.md").read_text()
    assert text.strip() in capsys.readouterr().out
    rows = cells(text.splitlines())
    by_method = {row[0]: dict(zip(rows[0], row)) for row in rows[2:5]}
    assert list(by_method) == ["target", "dareu", "npo"]
    assert by_method["dareu"]["ToW"] == "0.930 (0.910 to 0.970)" and by_method["target"]["ToW"].startswith("0.600")
    assert by_method["npo"]["ToW"] == "0.730 (0.710 to 0.770)" and by_method["npo"]["best ToW on the way"] == "0.740 (0.720 to 0.780)"
    assert by_method["dareu"]["perplexity"].startswith("1.500") and by_method["dareu"]["membership"].startswith("-0.030")
    settings = {row[0]: dict(zip(["setting", "seed", *benchmark.SETTING_COLUMNS], row)) for row in rows if row[1] == "median"}
    assert len(settings) == 4 and float(settings["ppo"]["ToW"]) == median(TOWS.values())
    assert settings["ppo"]["judge"] == "0.040" and settings["ppo"]["RL time"] == "0.400"
    assert "- reinforce: dareu said reinforce-seed0" in text
    record = json.loads((finished_runs / "benchmark.json").read_text())
    assert set(record) == {"0.05", "0.25"} and set(record["0.05"]) == {"0", "1", "2"}
    assert record["0.05"]["0"]["models"]["npo"]["curve"] == [[0, 0.6], [4, pytest.approx(0.72)], [8, pytest.approx(0.71)], [16, pytest.approx(0.41)], [128, pytest.approx(0.21)]]
    for name in ("curves.png", "scores.png"):
        assert (finished_runs / name).read_bytes()[:4] == b"\x89PNG"


def test_the_search_takes_the_highest_mean(tmp_path, monkeypatch):
    """`train.py` replaced by a formula: ToW falls with the distance from 4e-4 and 32 steps, most steeply where most is forgotten."""
    def tow(lr, steps, seed):
        return 1 - (0.1 + (seed - 100) / 10) * (abs(lr - 4e-4) * 100 + abs(steps - 32) / 128)

    def fake(out, flags, threads):
        flags = dict(zip(flags[::2], flags[1::2]))
        seed = flags["--seed"]
        assert flags["--n-forget"] == {100: 2, 101: 4, 102: 10}[seed]
        out.mkdir(parents=True, exist_ok=True)
        if "--rl-lr" in flags:
            full = {100: 16, 101: 20, 102: 50}[seed]  # 5 passes over the prompts, 16 iterations at least
            assert flags["--iterations"] in (full, full // 2)
            return {"models": {"dareu": {"tow": tow(flags["--rl-lr"], 32 if flags["--iterations"] == full else 99, seed)}, "retrained": {"tow": 1}}}
        log = [{"method": name, "step": step, "scores": {"tow": tow(flags["--baseline-lr"], step, seed)}} for name in METHODS for step in (4, 8, 16, 32, 64, 128)]
        (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
        return {"models": {"npo": {"tow": 0.5}, "retrained": {"tow": 1}}}

    monkeypatch.setattr(benchmark, "run", fake)
    monkeypatch.setattr(benchmark, "SEARCH_FILE", tmp_path / "search.json")
    benchmark.search(tmp_path, 2)
    found = json.loads((tmp_path / "search.json").read_text())
    assert found["methods"]["npo"]["lr"] == 4e-4 and found["methods"]["npo"]["steps"] == 32
    assert found["methods"]["dareu"]["lr"] == 5e-4 and found["methods"]["dareu"]["share of the default iterations"] == 1
    assert set(found["methods"]) == {"dareu", *METHODS}
    cell = next(cell for cell in found["methods"]["npo"]["grid"] if cell["lr"] == 2.5e-5 and cell["steps"] == 8)
    assert cell["tow"] == [pytest.approx(tow(2.5e-5, 8, seed)) for seed in (100, 101, 102)] and mean(cell["tow"]) < 1


def test_a_run_that_fails_is_one_line(tmp_path):
    with pytest.raises(InputError) as e:
        benchmark.main(["--seeds", "0", "--sizes", "0.05", "--flags=--no-such-flag", "--out", str(tmp_path)])
    assert "\n" not in str(e.value) and "forget2-seed0.txt" in str(e.value)
    assert "--no-such-flag" in (tmp_path / "forget2-seed0.txt").read_text()
