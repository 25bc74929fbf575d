"""The search of each loss-based method's learning rate and steps, on seeds of their own.

Every cell of the grid is one run: its ToW is read along the way at each number of steps. Each seed
forgets another number of owners, so that what is chosen has to serve all three.
"""

import json
from statistics import mean

from ..baselines import METHODS
from ..files import write_json
from .runs import ROOT, run_variants

SEARCH_FILE = ROOT / "data/authors/search.json"
SEEDS = {100: 2, 101: 4, 102: 10}  # seed: owners forgotten, of 40
GRID_LR = [2.5e-5, 1e-4, 4e-4]
GRID_STEPS = [8, 16, 32, 64, 128]
RL_LR = [1e-4, 1.5e-4, 3e-4, 5e-4]  # DareU's, the paper's own grid


def read_curves(folder):
    """{method: {step: ToW}} of a run's log."""
    curves = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "scores" in row:
            curves.setdefault(row["method"], {})[row["step"]] = row["scores"]["tow"]
    return curves


def search(out, workers, flags=()):
    """Choose the cell of the highest mean ToW for each method, and write SEARCH_FILE."""
    names = ",".join(METHODS)
    variants = {}
    for lr in GRID_LR:
        steps = ["--baseline-steps", max(GRID_STEPS)]
        variants[f"search-{lr}"] = ["--methods", names, "--baseline-lr", lr, *steps]
    for lr in RL_LR:
        variants[f"search-dareu-{lr}"] = ["--methods", "dareu", "--rl-lr", lr]
    tow = {method: {} for method in METHODS}
    dareu = {lr: [] for lr in RL_LR}
    for seed, n_forget in SEEDS.items():
        more = [*flags, "--n-forget", n_forget]
        results = run_variants(variants, [seed], out, workers, more)
        for lr in GRID_LR:
            curves = read_curves(out / f"search-{lr}-seed{seed}")
            for method in METHODS:
                for step in GRID_STEPS:
                    tow[method].setdefault((lr, step), []).append(curves[method][step])
        for lr in RL_LR:
            models = results[f"search-dareu-{lr}", seed]["models"]
            dareu[lr].append(models["dareu"]["tow"])
    found = {"seeds and owners forgotten": SEEDS, "chosen by": "mean ToW", "methods": {}}
    for method, cells in tow.items():
        lr, steps = max(cells, key=lambda cell: mean(cells[cell]))
        grid = [{"lr": a, "steps": b, "tow": values} for (a, b), values in cells.items()]
        found["methods"][method] = {"lr": lr, "steps": steps, "grid": grid}
        print(f"{method:<12}lr {lr}, {steps} steps: mean ToW {mean(cells[lr, steps]):.3f}")
    lr = max(dareu, key=lambda lr: mean(dareu[lr]))
    grid = [{"lr": a, "tow": values} for a, values in dareu.items()]
    found["methods"]["dareu"] = {"lr": lr, "grid": grid}
    print(f"{'dareu':<12}lr {lr}: mean ToW {mean(dareu[lr]):.3f}")
    write_json(SEARCH_FILE, found)
