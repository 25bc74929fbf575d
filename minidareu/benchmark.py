"""The tables of the README: `train.py` over seeds and settings.

    python -m minidareu.benchmark      20 runs; goes on where it was cut
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


def table(head, rows):
    """Lines of a Markdown table."""
    return ["", *("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of the runs (default: %(default)s)")
    args = parser.parse_args()
    folder = {(name, seed): args.out / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}" for seed in args.seeds for name in SETTINGS}
    runs = {(name, seed): run(folder[name, seed], seed, SETTINGS[name], folder["ppo", seed]) for name, seed in folder}

    rows = []
    for name in SETTINGS:
        results = [runs[name, seed] for seed in args.seeds]
        values = [[column(*(r["models"][m] for m in ("target", "retrained", "dareu")), r["seconds"]) for column in COLUMNS.values()]
                  for r in results]
        for label, row in [*zip(args.seeds, values), ("median", [median(column) for column in zip(*values)])]:
            rows.append([name, str(label), *(f"{value:.3f}" for value in row[:-1]), f"{row[-1]:.0f}"])
    lines, rows = table(["setting", "seed", *COLUMNS], rows), []
    for label, name, model in [("target", "ppo", "target"), ("retrained", "ppo", "retrained"), *((name, name, "dareu") for name in SETTINGS)]:
        columns = [[runs[name, seed]["models"][model][score] for seed in args.seeds] for score in SCORES]
        rows.append([label, *(f"{median(x):.3f} ({min(x):.3f} to {max(x):.3f})" for x in columns)])
    lines += table(["model", *SCORES], rows)
    samples = {name: [json.loads(line) for line in open(folder[name, args.seeds[0]] / "samples.jsonl", encoding="utf-8")] for name in SETTINGS}
    for i in range(0, len(samples["ppo"]), max(1, len(samples["ppo"]) // 6)):
        s = samples["ppo"][i]
        lines += ["", f"> {s['prompt']}", "", f"- reference: {s['reference']}", f"- retrained: {s['retrained']['response']}",
                  *(f"- {name}: {samples[name][i]['dareu']['response']}" for name in SETTINGS)]
    text = "\n".join(lines) + "\n"
    (args.out / "benchmark.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
