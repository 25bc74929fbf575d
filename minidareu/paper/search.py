"""The search of settings that the paper does not give, on seeds of their own.

DareU, DareU+ and SCRN: stage by stage, each with what the stages before have chosen, on the authors
and on the abstracts, whose responses are long. The loss-based methods: learning rate and steps, on
the authors. Each seed forgets another number of owners, so that what is chosen has to serve all.
"""

import itertools
import json
from statistics import mean

from ..baselines import METHODS
from ..files import InputError, read_lines, write_json
from ..run.flags import parse
from ..run.folder import LOG
from ..run.pool import DATA, ROOT, Job, folder_of, run_all, run_variants
from .abstracts import ARXIV, make_abstracts

SEARCH_FILE = ROOT / "data/authors/search.json"
SEEDS = {100: 2, 101: 4, 102: 10}  # seed: owners forgotten, of 40 authors
TOPICS = {100: 1, 101: 2, 102: 3}  # of 10 topics of abstracts
GRID_LR = [6.25e-6, 2.5e-5, 1e-4, 4e-4, 1.6e-3]
GRID_STEPS = [8, 16, 32, 64, 128, 256]


def grid(flags):
    """{flag: values} -> all combinations, each {flag: value}."""
    return [dict(zip(flags, values, strict=True)) for values in itertools.product(*flags.values())]


# The stages of each method: what is tried in each, {flag: value}. Flags of the abstracts that the
# paper gives for ArXiv stand beside them.
STAGES = {
    "dareu": [
        grid(
            {
                "--rl-schedule": ["constant"],
                "--gamma": [0.5, 0.7, 0.9, 0.99],
                "--gae-lambda": [0.5, 1.0],
                "--rl-lr": [3e-4],
            }
        ),
        grid({"--rl-lr": [1.5e-4, 3e-4, 5e-4]}),
        grid({"--rl-schedule": ["linear"], "--rl-lr": [6e-4, 8e-4, 1e-3]}),
        [{"--value": "shared"}]
        + grid({"--value": ["head"], "--value-lr": [1e-2]})
        + grid({"--value": ["network"], "--value-lr": [1e-3]}),
        grid({"--retain-batch": [64, 128, 256]}),
    ],
    "dareu_plus": [
        grid({"--plus-lr": [7.5e-4, 1.5e-3, 3e-3]}),
        grid({"--plus-kl-coef": [0.01, 0.03, 0.1]}),
        grid({"--plus-retain-batch": [16, 32]}),
        grid({"--plus-updates": [64, 128]}),
    ],
    "scrn": [grid({"--scrn-lr": [1e-2, 1e-1, 3e-1, 1.0]})],
}


def label_of(method, given):
    """The name of a run with these settings."""
    return "-".join([method, *map(str, given.values())])


def search_cells(method, cells, out, workers, flags):
    """[ToW by seed, on the authors and then on the abstracts] of each of these {flag: value}."""
    datasets = {"": ([], SEEDS)}
    if not any("--retain-batch" in cell for cell in cells):  # it counts rows, short ones here
        datasets["abstracts-"] = (["--data", make_abstracts(out), *ARXIV], TOPICS)
    first, jobs, runs = STAGES[method][0][0], {}, [[] for _ in cells]
    for name, (data, seeds) in datasets.items():
        for seed, n_forget in seeds.items():
            given = ["--data", DATA, "--seed", seed, *data, *flags]  # the last --data counts
            given += ["--n-forget", n_forget, "--no-curve"]
            base = folder_of(out, name + label_of(method, first), seed)
            for cell, own_runs in zip(cells, runs, strict=True):
                folder = folder_of(out, name + label_of(method, cell), seed)
                command = [*given, "--methods", method, *itertools.chain(*cell.items())]
                jobs[folder] = Job(folder, command, reuse=None if folder == base else base)
                own_runs.append(folder)
    # The models of the first cell are taken over by all others.
    results = run_all({k: job for k, job in jobs.items() if not job.reuse}, workers)
    results |= run_all({k: job for k, job in jobs.items() if job.reuse}, workers)
    tow = {folder: result["models"][method]["tow"] for folder, result in results.items()}
    return [[round(tow[folder], 3) for folder in own] for own in runs]  # a smaller gap is none


def search_stages(method, out, workers, flags):
    """{"chosen": {flag: value} of the highest mean ToW, the first of several; "grid": all}."""
    best, tried = {"flags": {}, "tow": []}, []
    for stage in STAGES[method]:
        cells = [best["flags"] | cell for cell in stage]
        same = [cell for cell in cells if tried and effective(cell) == effective(best["flags"])]
        rest = [cell for cell in cells if cell not in same]
        found = search_cells(method, rest, out, workers, flags=flags)
        made = [{"flags": cell, "tow": tow} for cell, tow in zip(rest, found, strict=True)]
        made += [{"flags": cell, "tow": best["tow"]} for cell in same]
        n_seeds = min(len(cell["tow"]) for cell in made)
        best = max(made, key=lambda cell: mean(cell["tow"][:n_seeds]))
        tried += made
    return {"chosen": best["flags"], "grid": tried}


def effective(cell):
    """{flag: value} with the defaults of the flags that are not given."""
    defaults = parse([], "")
    flags = {flag for stages in STAGES.values() for cells in stages for c in cells for flag in c}
    values = {flag: getattr(defaults, flag[2:].replace("-", "_")) for flag in flags}
    return values | cell


def read_curves(folder):
    """{method: {step: ToW}} of a run's log."""
    curves = {}
    for row in read_lines(folder / LOG):
        if "scores" in row:
            curves.setdefault(row["method"], {})[row["step"]] = row["scores"]["tow"]
    return curves


def search_losses(names, out, workers, flags):
    """{method: {"lr", "steps": those of the highest mean ToW, "grid": all}}."""
    steps = ["--baseline-steps", max(GRID_STEPS)]
    methods = ["--methods", ",".join(names)]
    variants = {f"losses-{lr}": [*methods, "--baseline-lr", lr, *steps] for lr in GRID_LR}
    tow = {method: {} for method in names}
    for seed, n_forget in SEEDS.items():
        more = [*flags, "--n-forget", n_forget]
        run_variants(variants, [seed], out, workers, flags=more)
        for lr in GRID_LR:
            curves = read_curves(folder_of(out, f"losses-{lr}", seed))
            for method in names:
                for step in GRID_STEPS:
                    tow[method].setdefault((lr, step), []).append(curves[method].get(step, 0))
    found = {}
    for method, cells in tow.items():
        lr, n_steps = max(cells, key=lambda cell: mean(cells[cell]))
        rows = [{"lr": a, "steps": b, "tow": values} for (a, b), values in cells.items()]
        found[method] = {"lr": lr, "steps": n_steps, "grid": rows}
    return found


def search(names, out, workers, flags=()):
    """Search the methods of these names, or all, and write SEARCH_FILE; the others stay there."""
    known = [*STAGES, *METHODS]
    for name in names:
        if name not in known:
            raise InputError(
                f"search: no method is called {name!r}; choose from {', '.join(known)}"
            )
    names = names or known
    found = json.loads(SEARCH_FILE.read_text(encoding="utf-8")) if SEARCH_FILE.exists() else {}
    found |= {"seeds and owners forgotten": SEEDS, "seeds and topics forgotten": TOPICS}
    found["chosen by"] = "mean ToW"
    methods = found.setdefault("methods", {})
    for name in names:
        if name in STAGES:
            methods[name] = search_stages(name, out, workers, flags)
            print(f"{name:<12}{methods[name]['chosen']}")
    losses = [name for name in names if name in METHODS]
    if losses:
        methods |= search_losses(losses, out, workers, flags=flags)
    for name in losses:
        print(f"{name:<12}lr {methods[name]['lr']}, steps {methods[name]['steps']}")
    write_json(SEARCH_FILE, found)
