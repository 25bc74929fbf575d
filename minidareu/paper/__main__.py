"""The paper's tables in miniature, with the paper's own ToW beside ours.

    python -m minidareu.paper                      lists the tables
    python -m minidareu.paper table13 table16      makes these, into runs/paper
    python -m minidareu.paper methods              every method beside DareU and DareU+
    python -m minidareu.paper search               learning rates and steps, on seeds of their own

Goes on where it was cut.
"""

import os
from pathlib import Path

from ..baselines import METHODS
from ..cli import make_parser, run_main
from ..files import InputError, write_json, write_text
from .runs import run_variants, spread, table
from .search import search
from .tables import TABLES

SHOWN = {
    "D_F": "forget",
    "D_R": "retain",
    "D_test": "test",
    "ToW": "tow",
    "attribution": "attribution",
    "fact recall": "fact_recall",
    "name kept": "name_kept",
    "perplexity": "perplexity",
}


def score_cells(runs, model):
    """Median and range of the shown scores of a model over runs."""
    scores = [r["models"][model] for r in runs]
    return [spread([s[name] for s in scores]) for name in SHOWN.values()]


def make_table(name, seeds, out, workers, flags):
    """Lines of Markdown of one of TABLES, and {row: {score: values}}."""
    t = TABLES[name]
    results = run_variants(t.variants, seeds, out, workers, flags=flags)
    rows, values = [], {}
    for label in sorted(t.variants, key=lambda text: (len(text), text)):
        runs = [results[label, seed] for seed in seeds]
        rows.append([label, *score_cells(runs, "dareu"), f"{t.reported[label]:.3f}"])
        values[label] = [r["models"]["dareu"] for r in runs]
    first = [results[next(iter(t.variants)), seed] for seed in seeds]
    rows.insert(0, ["retrained", *score_cells(first, "retrained"), "1.000"])
    lines = [f"{name}: {t.question}", *table(["", *SHOWN, "ToW, paper"], rows)]
    return lines, values


def compare_methods(seeds, out, workers, flags):
    """Lines of Markdown: every method beside DareU and DareU+, and their scores."""
    methods = ["dareu", "dareu_plus", *METHODS]
    variants = {"methods": ["--methods", ",".join(methods)]}
    results = run_variants(variants, seeds, out, workers, flags=flags)
    runs = [results["methods", seed] for seed in seeds]
    names = ["original", "retrained", *methods]
    rows = [[name, *score_cells(runs, name)] for name in names]
    return table(["model", *SHOWN], rows), {
        name: [r["models"][name] for r in runs] for name in names
    }


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.paper")
    parser.add_argument("names", nargs="*", help="tables to make; none: list them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the runs")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side")
    parser.add_argument("--flags", default="", help="more flags for train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of the runs")
    args = parser.parse_args(argv)
    known = [*TABLES, "methods", "search"]
    for name in args.names:
        if name not in known:
            raise InputError(f"no table is called {name!r}; choose from {', '.join(known)}")
    if not args.names:
        for name, t in TABLES.items():
            print(f"{name}: {t.question} {len(t.variants)} runs a seed")
        return
    args.out.mkdir(parents=True, exist_ok=True)
    flags = args.flags.split()
    for name in args.names:
        if name == "search":
            search(args.out, args.workers, flags)
            continue
        if name == "methods":
            lines, values = compare_methods(args.seeds, args.out, args.workers, flags)
        else:
            lines, values = make_table(name, args.seeds, args.out, args.workers, flags=flags)
        text = "\n".join(lines) + "\n"
        write_json(args.out / f"{name}.json", {"seeds": args.seeds, "rows": values})
        write_text(args.out / f"{name}.md", text)
        print(text)


if __name__ == "__main__":
    run_main(main, "minidareu.paper")
