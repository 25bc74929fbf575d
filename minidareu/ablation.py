"""What each part of DareU is for: one part changed at a time, in one table over seeds.

    python -m minidareu.ablation              ablation.json and ablation.md in runs/ablation

Goes on where it was cut.
"""

import os
from pathlib import Path

from .benchmark import run_all, spread, table
from .cli import make_parser, run_main
from .data import InputError, write, write_json

ABLATIONS = {
    "default": [],
    "whole response": ["--no-mask-prompt"],
    "exact reward": ["--reward", "exact", "--kl-coef", "1"],
    "beta 0": ["--kl-coef", "0"],
    "beta 0.3": ["--kl-coef", "0.3"],
    "no distillation": ["--distill-coef", "0"],
    "REINFORCE": ["--algorithm", "reinforce"],
    "group of 2": ["--group-size", "2"],
    "group of 8": ["--group-size", "8"],
    "no reference responses": ["--reference-responses", "0"],
    "no prompt dropout": ["--prompt-dropout", "0"],
    "classifier width 16": ["--classifier-width", "16"],
    "classifier width 128": ["--classifier-width", "128"],
    "classifier noise 0": ["--classifier-noise", "0"],
    "classifier noise 0.3": ["--classifier-noise", "0.3"],
    "1 owner": ["--n-forget", "1"],
    "4 owners": ["--n-forget", "4"],
    "10 owners": ["--n-forget", "10"],
}
# r, m: scores of the retrained and the unlearned model
COLUMNS = {
    "ToW": lambda r, m: m["tow"],
    "exact attribution": lambda r, m: m["exact_attribution"] - r["exact_attribution"],
    "attribution": lambda r, m: m["attribution"] - r["attribution"],
    "judge": lambda r, m: m["judge"] - r["judge"],
    "fact recall": lambda r, m: m["fact_recall"] - r["fact_recall"],
    "name kept": lambda r, m: m["name_kept"] - r["name_kept"],
    "perplexity": lambda r, m: m["perplexity"] / r["perplexity"],
    "forget quality": lambda r, m: m["forget_quality"],
}


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.ablation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--only", default=",".join(ABLATIONS), help="rows of the table, comma-separated, the default among them (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side (default: one a core)")
    parser.add_argument("--flags", default="", help="further flags for every run of train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs (default: %(default)s)")
    args = parser.parse_args(argv)
    names = args.only.split(",")
    for name in names:
        if name not in ABLATIONS:
            raise InputError(f"--only: no row is called {name!r}; choose from {', '.join(ABLATIONS)}")
    args.out.mkdir(parents=True, exist_ok=True)

    def job(name, seed):
        folder = args.out / f"{name.replace(' ', '-')}-seed{seed}"
        return folder, ["--seed", seed, *args.flags.split(), *ABLATIONS[name]], args.out / f"default-seed{seed}"

    runs = run_all({("default", seed): job("default", seed) for seed in args.seeds}, args.workers)  # these train what the others take over
    runs |= run_all({(name, seed): job(name, seed) for name in names for seed in args.seeds if name != "default"}, args.workers)
    values = {}
    for name in names:
        models = [runs[name, seed]["models"] for seed in args.seeds]
        values[name] = {column: [of(m["retrained"], m["dareu"]) for m in models] for column, of in COLUMNS.items()}
    lines = [f"Seeds {', '.join(map(str, args.seeds))}. Exact attribution to name kept: model minus retrained model; perplexity: the ratio."]
    lines += table(["", *COLUMNS], [[name, *map(spread, row.values())] for name, row in values.items()])
    write_json(args.out / "ablation.json", values)
    write(args.out / "ablation.md", lambda tmp: tmp.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    print("\n".join(lines))


if __name__ == "__main__":
    run_main(main, "minidareu.ablation")
