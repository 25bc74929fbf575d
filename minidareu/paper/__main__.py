"""Every table and figure of the paper in miniature, with the paper's own numbers beside ours.

    python -m minidareu.paper                      lists them
    python -m minidareu.paper table10 fig4         makes these, into runs/paper
    python -m minidareu.paper all                  makes all
    python -m minidareu.paper all --quick          all in minutes: one seed, small models
    python -m minidareu.paper search [method ...]  learning rates and steps, on seeds of their own

What several tables share is trained once. Goes on where it was cut.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from ..files import InputError, find, write_json, write_text
from ..report.plot import draw
from ..run.cli import make_parser, positive, run_main, seed_number, split_flags
from ..run.pool import DATA, ROOT, folder_of, run_variants, side_by_side
from .columns import gathered, table_rows
from .measured import MEASURED, Case, measure
from .plot import PICTURES
from .render import render, verdicts
from .search import search
from .tables import RUNS, TABLES

ITEMS = TABLES | MEASURED
NAMES = sorted(ITEMS, key=lambda name: (name[0] == "f", int(re.sub(r"\D", "", name)), name))
# The dataset that stands for the paper's ArXiv. S_PPO and |B_f| are the paper's for it; |B_r| has
# about as many tokens as on the authors.
ARXIV = "--ppo-steps 6 --forget-batch 16 --retain-batch 32".split()
DATA_FLAGS = {"authors": [], "abstracts": ARXIV}
QUICK = (
    "--n-embd 32 --classifier-width 32 --epochs 4 --classifier-epochs 3 "
    "--plus-updates 16 --baseline-steps 16"
).split()


def picked(names):
    """Names of ITEMS that were asked for; table2 stands for table2a and table2b. Raises
    InputError."""
    if names == ["all"]:
        return NAMES
    found = []
    for name in names:
        fitting = [known for known in NAMES if name in (known, known.rstrip("ab"))]
        if not fitting:
            raise InputError(
                f"nothing is called {name!r}; choose from {', '.join(NAMES)}, all, search"
            )
        found += fitting
    return list(dict.fromkeys(found))


def make_abstracts(folder):
    """abstracts.jsonl in a folder, made unless it is there: its path."""
    path = folder / "abstracts.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, ROOT / "data/abstracts/prepare.py", "--out", path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def make_runs(names, args, data, flags):
    """{(run, seed): results} of these of RUNS, and of those whose models they take over."""
    names = list(dict.fromkeys([*(RUNS[name].base for name in names), *names]))
    bases = {name: RUNS[name].base for name in names}
    variants = {}
    for name in names:
        run = RUNS[name]
        variants[name] = ["--data", data[run.data], *DATA_FLAGS[run.data], *flags, *run.flags]
    return run_variants(variants, args.seeds, args.out, args.workers, bases=bases)


def make_measures(names, args, data, flags):
    """{(function's name, seed): what it measures}, of each function of MEASURED once."""
    jobs = {}
    for item in (MEASURED[name] for name in names):
        for seed in args.seeds[:1] if item.first_seed else args.seeds:
            folders = {run: folder_of(args.out, run, seed) for run in item.needs}
            case = Case(seed, args.out, data["authors"], flags=flags, folders=folders)
            label = item.measure.__name__
            jobs[label, seed] = (
                measure,
                item.measure,
                case,
                args.out / f"measures/{label}-seed{seed}.json",
            )
    return side_by_side(jobs, args.workers, "measures")


def make_item(name, args, results, measures):
    """The JSON value of a table or a figure: its rows over seeds, and what else it shows."""
    item, seeds = ITEMS[name], args.seeds
    found = {"name": name, "title": item.title, "question": item.question, "seeds": seeds}
    if name in TABLES:
        by_seed = []
        for seed in seeds:
            own = {run: results[run, seed] for run in item.runs()}
            by_seed.append(table_rows(item, own))
    else:
        measured = seeds[:1] if item.first_seed else seeds
        by_seed = [measures[item.measure.__name__, seed][name] for seed in measured]
        first = measures[item.measure.__name__, seeds[0]]
        found |= {key: first[key] for key in ("points", "example") if key in first}
    found["rows"] = gathered(by_seed)
    found["verdicts"] = verdicts(name, found["rows"])
    return found


def list_items():
    for name in NAMES:
        item = ITEMS[name]
        print(f"{name:<9}{item.title}. {item.question} [{len(item.runs())} runs a seed]")
    print("fig1 is a drawing: data/authors/pipeline.svg.")


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.paper")
    parser.add_argument("names", nargs="*", help="tables and figures to make; none: list them")
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", help="of the runs (default: the paper's, 41 42 43)"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, small models: a rehearsal")
    parser.add_argument("--data", default=DATA, help="another dataset in the place of the authors")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="runs side by side"
    )
    parser.add_argument("--flags", default="", help="more flags for train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of the runs")
    args = parser.parse_args(argv)
    if not args.names:
        list_items()
        return
    more = split_flags(args.flags)
    flags = ["--no-curve", *(QUICK if args.quick else []), *more]
    if args.names[0] == "search":
        args.out.mkdir(parents=True, exist_ok=True)
        search(args.names[1:], args.out, args.workers, flags=more)
        return
    names = picked(args.names)
    args.seeds = args.seeds or ([41] if args.quick else [41, 42, 43])
    args.out = args.out.resolve()
    data = {"authors": find(args.data).resolve(), "abstracts": make_abstracts(args.out)}
    needed = list(dict.fromkeys(run for name in names for run in ITEMS[name].runs()))
    results = make_runs(needed, args, data, flags=flags)
    measured = [name for name in names if name in MEASURED]
    measures = make_measures(measured, args, data, flags=flags)
    for name in names:
        found = make_item(name, args, results, measures=measures)
        write_json(args.out / f"{name}.json", found)
        lines = render(found)
        write_text(args.out / f"{name}.md", "\n".join(lines))
        if name in PICTURES:
            draw(args.out / f"{name}.png", PICTURES[name], found)
        print("\n".join(lines))


if __name__ == "__main__":
    run_main(main, "minidareu.paper")
