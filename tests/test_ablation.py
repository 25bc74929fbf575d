import json
from statistics import median

import pytest

from minidareu import ablation
from minidareu.data import InputError


def test_every_row_of_the_table_runs_at_toy_size(toy, tmp_path, capsys):
    flags = f"--data {toy} --n-embd 32 --n-layer 1 --epochs 2 --classifier-epochs 2 --iterations 1 --prompts 4 --vocab-size 300 --device cpu"
    ablation.main(["--seeds", "0", "--workers", "2", "--out", str(tmp_path), "--flags", flags])
    values = json.loads((tmp_path / "ablation.json").read_text())
    assert set(values) == set(ablation.ABLATIONS) and all(set(row) == set(ablation.COLUMNS) for row in values.values())
    for name, flags in ablation.ABLATIONS.items():
        folder = tmp_path / f"{name.replace(' ', '-')}-seed0"
        config = json.loads((folder / "results.json").read_text())["config"]
        for flag, value in zip(flags[::2], flags[1::2]):
            assert str(config[flag[2:].replace("-", "_")]) in (value, f"{value}.0"), name
    rows = (tmp_path / "ablation.md").read_text().splitlines()
    assert len(rows) == len(values) + 4 and rows[-1] in capsys.readouterr().out


def test_columns_are_differences_and_ratios(tmp_path, monkeypatch):
    scores = dict(tow=0.9, exact_attribution=0.4, attribution=0.3, judge=0.2, fact_recall=0.5, name_kept=1.0, perplexity=3.0, forget_quality=0.2)
    retrained = dict(tow=1.0, exact_attribution=0.1, attribution=0.1, judge=0.1, fact_recall=0.1, name_kept=0.9, perplexity=1.5, forget_quality=1.0)

    def fake(jobs, workers):
        return {(name, seed): {"models": {"target": scores, "retrained": retrained, "dareu": {**scores, "tow": 0.8 + seed / 10}}} for name, seed in jobs}

    monkeypatch.setattr(ablation, "run_all", fake)
    ablation.main(["--seeds", "0", "1", "2", "--only", "default,beta 0", "--out", str(tmp_path)])
    row = json.loads((tmp_path / "ablation.json").read_text())["beta 0"]
    assert median(row["ToW"]) == 0.9 and abs(row["exact attribution"][0] - 0.3) < 1e-9 and row["perplexity"][0] == 2


def test_an_unknown_row_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no row is called 'beta 1'") as e:
        ablation.main(["--only", "default,beta 1", "--out", str(tmp_path / "out")])
    assert "\n" not in str(e.value) and not (tmp_path / "out").exists()
