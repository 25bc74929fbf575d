"""The search of learning rates and steps, on seeds of their own.

DareU: the learning rate, of the paper's own grid, and |B_r|, which the paper does not give; two
owners forgotten. The loss-based methods and SCRN: learning rate and steps; each seed forgets
another number of owners, so that what is chosen has to serve all three.
"""

import json
from statistics import mean

from ..baselines import METHODS
from ..files import InputError, read_lines, write_json
from ..run.folder import LOG
from ..run.pool import ROOT, folder_of, run_variants

SEARCH_FILE = ROOT / "data/authors/search.json"
SEEDS = {100: 2, 101: 4, 102: 10}  # seed: owners forgotten, of 40
GRID_LR = [2.5e-5, 1e-4, 4e-4]
GRID_STEPS = [8, 16, 32, 64, 128]
RL_LR = [1e-4, 1.5e-4, 3e-4, 5e-4]
RETAIN_BATCH = [32, 128]
SCRN_LR = [1e-2, 1e-1, 1.0]


def read_curves(folder):
    """{method: {step: ToW}} of a run's log."""
    curves = {}
    for row in read_lines(folder / LOG):
        if "scores" in row:
            curves.setdefault(row["method"], {})[row["step"]] = row["scores"]["tow"]
    return curves


def search_dareu(out, workers, flags):
    """DareU's learning rate and |B_r|: {"lr", "retain_batch": of the highest mean ToW, "grid"}."""
    cells = [(lr, size) for lr in RL_LR for size in RETAIN_BATCH]
    variants = {
        f"dareu-{lr}-{size}": ["--methods", "dareu", "--rl-lr", lr, "--retain-batch", size]
        for lr, size in cells
    }
    results = run_variants(variants, list(SEEDS), out, workers, flags=flags)
    tow = {}
    for lr, size in cells:
        runs = [results[f"dareu-{lr}-{size}", seed] for seed in SEEDS]
        tow[lr, size] = [r["models"]["dareu"]["tow"] for r in runs]
    lr, size = max(cells, key=lambda cell: mean(tow[cell]))
    grid = [{"lr": a, "retain_batch": b, "tow": values} for (a, b), values in tow.items()]
    return {"lr": lr, "retain_batch": size, "grid": grid}


def search_scrn(out, workers, flags):
    """SCRN's learning rate: {"lr": of the highest mean ToW, "grid"}."""
    variants = {f"scrn-{lr}": ["--methods", "scrn", "--scrn-lr", lr] for lr in SCRN_LR}
    tow = {lr: [] for lr in SCRN_LR}
    for seed, n_forget in SEEDS.items():
        more = [*flags, "--n-forget", n_forget]
        results = run_variants(variants, [seed], out, workers, flags=more)
        for lr in SCRN_LR:
            tow[lr].append(results[f"scrn-{lr}", seed]["models"]["scrn"]["tow"])
    grid = [{"lr": lr, "tow": values} for lr, values in tow.items()]
    return {"lr": max(SCRN_LR, key=lambda lr: mean(tow[lr])), "grid": grid}


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
                    tow[method].setdefault((lr, step), []).append(curves[method][step])
    found = {}
    for method, cells in tow.items():
        lr, n_steps = max(cells, key=lambda cell: mean(cells[cell]))
        grid = [{"lr": a, "steps": b, "tow": values} for (a, b), values in cells.items()]
        found[method] = {"lr": lr, "steps": n_steps, "grid": grid}
    return found


def search(names, out, workers, flags=()):
    """Search the methods of these names, or all, and write SEARCH_FILE; the others stay there."""
    known = ["dareu", "scrn", *METHODS]
    for name in names:
        if name not in known:
            raise InputError(
                f"search: no method is called {name!r}; choose from {', '.join(known)}"
            )
    names = names or known
    found = json.loads(SEARCH_FILE.read_text(encoding="utf-8")) if SEARCH_FILE.exists() else {}
    found |= {"seeds and owners forgotten": SEEDS, "chosen by": "mean ToW"}
    methods = found.setdefault("methods", {})
    if "dareu" in names:
        methods["dareu"] = search_dareu(out, workers, flags)
    if "scrn" in names:
        methods["scrn"] = search_scrn(out, workers, flags)
    losses = [name for name in names if name in METHODS]
    if losses:
        methods |= search_losses(losses, out, workers, flags=flags)
    for method in names:
        chosen = methods[method]
        print(f"{method:<12}lr {chosen['lr']}, steps {chosen.get('steps', '-')}")
    write_json(SEARCH_FILE, found)
