"""DareU against the loss-based methods: methods x seeds x sizes of the forget set, by runs of `train.py`.

    python -m minidareu.benchmark              benchmark.json, benchmark.md, curves.png and scores.png in runs/benchmark
    python -m minidareu.benchmark --search     before it: each method's learning rate and steps, on seeds of their own

Both go on where they were cut.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from statistics import mean, median

from tqdm import tqdm

from .baselines import METHODS
from .cli import make_parser, run_main
from .config import Config, default_iterations
from .data import InputError, load_records, write

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data/authors/authors.jsonl"
SIZES = [0.05, 0.1, 0.25]  # forget owners, as a share of all
RUN_ON = 128  # steps of every loss-based method: as many as DareU takes

# The search. Each of its seeds forgets another size, so that what is chosen has to serve all three.
SEARCH_FILE = ROOT / "data/authors/search.json"
SEARCH_SEEDS = {100: 0.05, 101: 0.1, 102: 0.25}
GRID_LR, GRID_STEPS = [2.5e-5, 1e-4, 4e-4], [8, 16, 32, 64, 128]
GRID_RL_LR, GRID_SHARE = [5e-4, 1e-3, 2e-3], [1, 0.5]  # DareU's budget: a share of its default iterations, which grow with the forget set

# Other settings of DareU, on the smallest size.
SETTINGS = {
    "ppo": [],
    "reinforce": ["--algorithm", "reinforce"],
    "ppo, three times the iterations": ["--iterations", "48"],
    "ppo, whole response": ["--no-mask-prompt"],
}
# Column: how it follows from a run's results; t, r and m are the scores of the target, the retrained and the unlearned model.
SETTING_COLUMNS = {
    "ToW": lambda t, r, m, s: m["tow"],
    "ToW, target": lambda t, r, m, s: t["tow"],
    "attribution": lambda t, r, m, s: m["attribution"],
    "target": lambda t, r, m, s: t["attribution"],
    "retrained": lambda t, r, m, s: r["attribution"],
    "judge": lambda t, r, m, s: m["judge"] - r["judge"],
    "fact recall": lambda t, r, m, s: m["fact_recall"] - r["fact_recall"],
    "name kept": lambda t, r, m, s: m["name_kept"] - r["name_kept"],
    "retain": lambda t, r, m, s: m["retain"] - r["retain"],
    "test": lambda t, r, m, s: m["test"] - r["test"],
    "perplexity": lambda t, r, m, s: m["perplexity"] / r["perplexity"],
    "RL time": lambda t, r, m, s: s["dareu"] / s["retrained"],
}
METHOD_COLUMNS = {
    "ToW": lambda r, m: m["tow"],
    "best ToW on the way": lambda r, m: m["best_tow"],
    "fact recall": lambda r, m: m["fact_recall"] - r["fact_recall"],
    "attribution": lambda r, m: m["attribution"],
    "perplexity": lambda r, m: m["perplexity"] / r["perplexity"],
    "model utility": lambda r, m: m["model_utility"],
    "forget quality": lambda r, m: m["forget_quality"],
    "membership": lambda r, m: m["mia_min_k"] - r["mia_min_k"],
    "extraction": lambda r, m: m["extraction_strength"] - r["extraction_strength"],
}
SCORES = ["tow", "attribution", "judge", "fact_recall", "name_kept", "perplexity"]


def run(out, flags, threads):
    """Results of one run of `train.py`, made unless they are there. Raises InputError where it fails."""
    command = [sys.executable, str(ROOT / "train.py"), "--out", str(out), *map(str, flags)]
    done = out / "command.json"  # the command of finished results
    if not (done.exists() and json.loads(done.read_text(encoding="utf-8")) == command[2:]):
        out.mkdir(parents=True, exist_ok=True)
        with open(f"{out}.txt", "w", encoding="utf-8") as printed:
            if subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=printed, stderr=printed).returncode:
                raise InputError(f"a run failed: see {out}.txt; the same command goes on once it is mended")
        write(done, lambda tmp: tmp.write_text(json.dumps(command[2:]), encoding="utf-8"))
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def run_all(jobs, workers):
    """{name: (out, flags, reuse)} -> {name: results}, side by side. PyTorch gets its share of the cores in each.

    reuse: a run of the same seed, for the models that it has trained."""
    threads = max(1, os.cpu_count() // workers)
    bar, results = tqdm(total=len(jobs), desc="runs", disable=None), {}
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run, out, ["--data", DATA, "--reuse", reuse, *flags], threads): name for name, (out, flags, reuse) in jobs.items()}
        for future in as_completed(futures):
            try:
                models = future.result()["models"]
            except InputError:
                pool.shutdown(cancel_futures=True)
                raise
            results[futures[future]] = future.result()
            bar.update()
            bar.set_postfix(best_tow="{:.3f}".format(max(scores["tow"] for name, scores in models.items() if name != "retrained")))
    bar.close()
    return results


@cache
def n_forget(size):
    """A share of all owners -> how many."""
    return max(1, round(size * len({r.owner for r in load_records(DATA)})))


def read_log(out):
    """ToW of each method on its way, where it was evaluated: {method: [[step, ToW]]}."""
    curves = {}
    for row in map(json.loads, (out / "log.jsonl").read_text(encoding="utf-8").splitlines()):
        if "scores" in row:
            curves.setdefault(row["method"], []).append([row["step"], row["scores"]["tow"]])
    return curves


def search(out, workers):
    """Final ToW over the grid, for DareU and every other method; writes SEARCH_FILE with the setting of the highest mean."""
    train = [r for r in load_records(DATA) if r.split == "train"]
    jobs = {}
    for seed, size in SEARCH_SEEDS.items():
        shared, flags = out / f"seed{seed}-rl{GRID_RL_LR[0]}-{GRID_SHARE[0]}", ["--seed", seed, "--n-forget", n_forget(size)]
        for lr in GRID_RL_LR:
            for share in GRID_SHARE:
                iterations = round(share * default_iterations(Config(), round(size * len(train))))
                jobs["dareu", lr, share, seed] = out / f"seed{seed}-rl{lr}-{share}", [*flags, "--rl-lr", lr, "--iterations", iterations], shared
        for lr in GRID_LR:
            budget = ["--methods", ",".join(METHODS), "--baseline-lr", lr, "--baseline-steps", GRID_STEPS[-1]]
            jobs["others", lr, None, seed] = out / f"seed{seed}-lr{lr}", [*flags, *budget], shared
    first = {name: job for name, job in jobs.items() if job[0] == job[2]}  # these train the models
    results = {**run_all(first, workers), **run_all({name: job for name, job in jobs.items() if name not in first}, workers)}
    tow = {method: {} for method in ("dareu", *METHODS)}
    for (method, lr, share, seed), (folder, _, _) in jobs.items():
        if method == "dareu":
            tow["dareu"].setdefault((lr, share), []).append(results[method, lr, share, seed]["models"]["dareu"]["tow"])
        else:
            for name, curve in read_log(folder).items():
                for step, value in curve:
                    if step in GRID_STEPS:
                        tow[name].setdefault((lr, step), []).append(value)
    found = {"seeds and shares of owners forgotten": SEARCH_SEEDS, "score": "final ToW of each seed; the highest mean is chosen", "methods": {}}
    for method, cells in tow.items():
        budget = "share of the default iterations" if method == "dareu" else "steps"
        lr, steps = max(cells, key=lambda cell: mean(cells[cell]))
        found["methods"][method] = {"lr": lr, budget: steps, "grid": [{"lr": a, budget: b, "tow": values} for (a, b), values in cells.items()]}
        print(f"{method:<12} learning rate {lr}, {budget} {steps}: mean ToW {mean(cells[lr, steps]):.3f}")
    write(SEARCH_FILE, lambda tmp: tmp.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))


def table(head, rows):
    """Lines of a Markdown table."""
    return ["", *("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])]


def spread(values):
    """Median and range of the values that are not None."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def methods_tables(record, methods):
    """A table for each size of the forget set: median and range over seeds of every method."""
    lines = []
    for size, results in record.items():
        models = [run["models"] for run in results.values()]
        lines += ["", f"Forget {n_forget(float(size))} owners ({float(size):.0%}), seeds {', '.join(results)}:"]
        rows = [[name, *(spread([column(m["retrained"], m[name]) for m in models]) for column in METHOD_COLUMNS.values())]
                for name in ("target", *methods)]
        lines += table(["method", *METHOD_COLUMNS], rows)
    return lines


def settings_tables(runs, folders, seeds):
    """The settings of DareU, seed by seed; the same beside target and retrained model; and what they say."""
    rows = []
    for name in SETTINGS:
        results = [runs[name, seed] for seed in seeds]
        values = [[column(*(r["models"][m] for m in ("target", "retrained", "dareu")), r["seconds"]) for column in SETTING_COLUMNS.values()]
                  for r in results]
        rows += [[name, str(label), *(f"{value:.3f}" for value in row)]
                 for label, row in [*zip(seeds, values), ("median", [median(column) for column in zip(*values)])]]
    lines, rows = table(["setting", "seed", *SETTING_COLUMNS], rows), []
    for label, name, model in [("target", "ppo", "target"), ("retrained", "ppo", "retrained"), *((name, name, "dareu") for name in SETTINGS)]:
        rows.append([label, *(spread([runs[name, seed]["models"][model][score] for seed in seeds]) for score in SCORES)])
    lines += table(["model", *SCORES], rows)
    samples = {name: [json.loads(line) for line in open(folders[name, seeds[0]] / "samples.jsonl", encoding="utf-8")] for name in SETTINGS}
    for i in range(0, len(samples["ppo"]), max(1, len(samples["ppo"]) // 6)):
        s = samples["ppo"][i]
        lines += ["", f"> {s['prompt']}", "", f"- reference: {s['reference']}", f"- retrained: {s['retrained']['response']}",
                  *(f"- {name}: {samples[name][i]['dareu']['response']}" for name in SETTINGS)]
    return lines


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.benchmark")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="forget owners, as a share of all (default: 0.05 0.1 0.25)")
    parser.add_argument("--methods", default=",".join(["dareu", *METHODS]), help="comma-separated (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side (default: one a core)")
    parser.add_argument("--search", action="store_true", help="choose each method's learning rate and steps, and write them to search.json")
    parser.add_argument("--flags", default="", help="further flags for every run of train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of the runs (default: %(default)s)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.search:
        return search(args.out, args.workers)

    methods, more = args.methods.split(","), args.flags.split()

    def folder(size, seed):
        return args.out / f"forget{n_forget(size)}-seed{seed}"

    jobs = {(size, seed): (folder(size, seed), ["--seed", seed, "--n-forget", n_forget(size), "--methods", args.methods, "--run-on", RUN_ON, *more],
                           folder(args.sizes[0], seed)) for size in args.sizes for seed in args.seeds}
    setting = {("ppo", seed): folder(args.sizes[0], seed) for seed in args.seeds}
    setting |= {(name, seed): args.out / f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
                for name in list(SETTINGS)[1:] for seed in args.seeds}
    later = {(name, seed): (out, ["--seed", seed, "--n-forget", n_forget(args.sizes[0]), *SETTINGS[name], *more], folder(args.sizes[0], seed))
             for (name, seed), out in setting.items() if name != "ppo"}
    # The smallest forget set first: its runs train what the others of the seed take over.
    first = {name: job for name, job in jobs.items() if name[0] == args.sizes[0]}
    runs = run_all(first, args.workers)
    runs |= run_all({name: job for name, job in (jobs | later).items() if name not in first}, args.workers)

    record = {str(size): {str(seed): runs[size, seed] for seed in args.seeds} for size in args.sizes}
    for size in args.sizes:
        for seed in args.seeds:
            models = runs[size, seed]["models"]
            curves = read_log(folder(size, seed))
            for name in ("target", *methods):
                models[name]["curve"] = [[0, models["target"]["tow"]], *curves.get(name, [])]
                models[name]["best_tow"] = max(tow for _, tow in models[name]["curve"])
    lines = methods_tables(record, methods)
    if "dareu" in methods:
        runs |= {("ppo", seed): runs[args.sizes[0], seed] for seed in args.seeds}
        lines += settings_tables(runs, setting, args.seeds)
    text = "\n".join(lines) + "\n"
    write(args.out / "benchmark.json", lambda tmp: tmp.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8"))
    write(args.out / "benchmark.md", lambda tmp: tmp.write_text(text, encoding="utf-8"))
    print(text)
    try:
        from .plot import plot_curves, plot_scores
        write(args.out / "curves.png", lambda tmp: plot_curves(record, methods, tmp))
        write(args.out / "scores.png", lambda tmp: plot_scores(record, methods, tmp))
    except ImportError:
        print("No figures: they need matplotlib (pip install -e '.[plot]').")


if __name__ == "__main__":
    run_main(main, "minidareu.benchmark")
