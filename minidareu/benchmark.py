"""The tables of the README: `train.py` over seeds and settings.

    python -m minidareu.benchmark                      20 runs; goes on where it was cut
    python -m minidareu.benchmark --seeds 0,1 --settings ppo
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

SETTINGS = {
    "ppo": [],
    "reinforce": ["--algorithm", "reinforce"],
    "ppo, three times the iterations": ["--iterations", "48"],
    "ppo, whole response": ["--no-mask-prompt"],
}
# Column: how it follows from a run's results; t, r and d are the scores of the target, retrained and DareU models.
COLUMNS = {
    "ToW": lambda t, r, d, s: d["tow"],
    "ToW, target": lambda t, r, d, s: t["tow"],
    "attribution": lambda t, r, d, s: d["attribution"],
    "target": lambda t, r, d, s: t["attribution"],
    "retrained": lambda t, r, d, s: r["attribution"],
    "judge": lambda t, r, d, s: d["judge"] - r["judge"],
    "fact recall": lambda t, r, d, s: d["fact_recall"] - r["fact_recall"],
    "name kept": lambda t, r, d, s: d["name_kept"] - r["name_kept"],
    "retain": lambda t, r, d, s: d["retain"] - r["retain"],
    "test": lambda t, r, d, s: d["test"] - r["test"],
    "perplexity": lambda t, r, d, s: d["perplexity"] / r["perplexity"],
    "RL time": lambda t, r, d, s: s["dareu"] / s["retrained"],
    "seconds": lambda t, r, d, s: s["total"],
}
SCORES = ["tow", "attribution", "judge", "fact_recall", "name_kept", "perplexity"]


def run(out, seed, flags, shared):
    """One run of `train.py`, unless it is done; takes over the models that another setting of the same seed trained."""
    if not (out / "results.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        for name in ("experiment.json", "target.pt", "retrained.pt", "classifier.pt"):
            if (shared / name).exists() and not (out / name).exists():
                shutil.copy(shared / name, out / name)
        train = Path(__file__).resolve().parent.parent / "train.py"
        subprocess.run([sys.executable, train, "--seed", str(seed), "--out", out, *flags], check=True)
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def spread(values):
    """Median, least and largest of a list."""
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated (default: %(default)s)")
    parser.add_argument("--settings", default=";".join(SETTINGS), help="separated by semicolons (default: %(default)s)")
    parser.add_argument("--out", default="runs/benchmark", help="folder of the runs (default: %(default)s)")
    args = parser.parse_args()
    seeds, names, out = [int(seed) for seed in args.seeds.split(",")], args.settings.split(";"), Path(args.out)
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"--settings: unknown {unknown[0]!r}; use {', '.join(map(repr, SETTINGS))}")
    folder = {(name, seed): out / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}" for name in names for seed in seeds}
    runs = {(name, seed): run(folder[name, seed], seed, SETTINGS[name], folder[names[0], seed]) for seed in seeds for name in names}

    lines = [row("setting", "seed", *COLUMNS), row(*["---"] * (2 + len(COLUMNS)))]
    for name in names:
        scores = [[column(*(r["models"][m] for m in ("target", "retrained", "dareu")), r["seconds"]) for column in COLUMNS.values()]
                  for r in (runs[name, seed] for seed in seeds)]
        for label, values in [*zip(map(str, seeds), scores), ("median", [median(column) for column in zip(*scores)])]:
            lines.append(row(name, label, *(f"{value:.0f}" if column == "seconds" else f"{value:.3f}" for column, value in zip(COLUMNS, values))))
    lines += ["", row("model", *SCORES), row(*["---"] * (1 + len(SCORES)))]
    for label, name, model in [("target", names[0], "target"), ("retrained", names[0], "retrained"), *((name, name, "dareu") for name in names)]:
        lines.append(row(label, *(spread([runs[name, seed]["models"][model][score] for seed in seeds]) for score in SCORES)))
    samples = {name: [json.loads(line) for line in (folder[name, seeds[0]] / "samples.jsonl").read_text(encoding="utf-8").splitlines()] for name in names}
    for i in range(0, len(samples[names[0]]), max(1, len(samples[names[0]]) // 6)):
        first = samples[names[0]][i]
        lines += ["", f"> {first['prompt']}", "", f"- reference: {first['reference']}", f"- retrained: {first['retrained']['response']}"]
        lines += [f"- {name}: {samples[name][i]['dareu']['response']}" for name in names]
    text = "\n".join(lines) + "\n"
    (out / "benchmark.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
