import json
import sys
from statistics import median

from minidareu import benchmark

SCORES = dict(forget=0.5, retain=1.0, test=1.0, tow=1.0, attribution=0.02, attribution_response=0.3, judge=0.01, fact_recall=0.1, name_kept=0.9, perplexity=1.2)


def test_tables_of_finished_runs(tmp_path, monkeypatch, capsys):
    tows = {0: 0.91, 1: 0.97, 2: 0.93}
    for seed, tow in tows.items():
        for name in ("ppo", "reinforce", "ppo-three-times-the-iterations", "ppo-whole-response"):
            out = tmp_path / f"{name}-seed{seed}"
            out.mkdir()
            models = {"target": SCORES, "retrained": SCORES, "dareu": {**SCORES, "tow": tow, "judge": 0.05, "perplexity": 1.8}}
            seconds = dict(target=20, retrained=20, classifier=10, dareu=8, total=70)
            (out / "results.json").write_text(json.dumps({"models": models, "seconds": seconds}))
            sample = {"prompt": "Who?", "reference": "Ann.", **{m: {"response": f"{m} said {name}"} for m in models}}
            (out / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    monkeypatch.setattr(sys, "argv", ["benchmark", "--seeds", "0", "1", "2", "--out", str(tmp_path)])
    benchmark.main()
    text = (tmp_path / "benchmark.md").read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head, medians = rows[0], [row for row in rows if row[1] == "median"]
    assert len(medians) == 4
    row = dict(zip(head, medians[0]))
    assert float(row["ToW"]) == median(tows.values()) and row["judge"] == "0.040" and row["perplexity"] == "1.500" and row["RL time"] == "0.400"
    assert "0.930 (0.910 to 0.970)" in text and "- reinforce: dareu said reinforce" in text
