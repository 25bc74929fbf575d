"""The search of settings that the paper does not give, on seeds of their own.

Stage by stage, each with what the stages before have chosen; of the loss-based methods learning
rate and passes together, over D_F, or over D_R for fine-tuning on it alone. Each seed forgets
another number of the authors, so that what is chosen has to serve all. A cell's score is
`overall_score`, which sees facts and language beside ToW; the highest mean is taken. Where the
paper gives a value, another is taken only if it gains more than the seeds differ.
"""

import itertools
import json
from statistics import mean, pstdev

from ..baselines import METHODS
from ..files import InputError, write_json
from ..metrics import overall_score
from ..run.pool import DATA, ROOT, Job, folder_of, run_all

SEARCH_FILE = ROOT / "data/authors/search.json"
SEEDS = {100: 2, 101: 4, 102: 10}  # seed: owners forgotten, of 40 authors
GRID_LR = [2.5e-5, 1e-4, 4e-4, 1.6e-3, 6.4e-3]
# Passes over D_F, or over D_R, of which 15 would be retraining.
GRID_PASSES = {"forget": [1, 2, 4, 8, 16, 32, 64], "retain": [1, 2, 4]}


def grid(flags):
    """{flag: values} -> all combinations, each {flag: value}."""
    return [dict(zip(flags, values, strict=True)) for values in itertools.product(*flags.values())]


# The stages of each method: what is tried in each, {flag: value}.
STAGES = {
    "dareu": [
        grid({"--ppo-steps": [20], "--rl-lr": [2e-4, 3e-4, 4e-4, 6e-4]})
        + grid({"--ppo-steps": [10], "--rl-lr": [3e-4, 4e-4]})
        + grid({"--ppo-steps": [5], "--rl-lr": [3e-4, 4e-4, 5e-4]}),
        grid({"--kl-reference": ["original", "old"], "--renew-old-policy": ["epoch", "batch"]}),
        grid({"--gae-lambda": [1.0, 0.95]}),
        grid({"--gamma": [0.8, 0.9, 0.95, 0.99]}),
        grid({"--whiten": ["advantages", "none"]}),
        grid({"--retain-batch": [16, 32, 64]}),
        grid({"--kl-coef": [0.1, 0.3]}),
        grid({"--distill-coef": [2.0, 4.0]}),
    ],
    "reinforce": [grid({"--algorithm": ["reinforce"], "--rl-lr": [2e-4, 4e-4, 8e-4]})],
    "dareu_plus": [
        grid({"--plus-lr": [3e-3, 5e-3]}),
        grid({"--plus-kl-coef": [0.03, 0.1]}),
        grid({"--plus-distill-coef": [2.0, 4.0]}),
        grid({"--plus-updates": [64, 128]}),
    ],
    "scrn": [grid({"--baseline-lr": [1e-2, 1e-1, 3e-1, 1.0]})],
}
PAPERS_VALUES = {"--ppo-steps": 20, "--gae-lambda": 1.0, "--kl-coef": 0.1, "--distill-coef": 2.0}
PPO_VALUES = {"--rl-lr": 4e-4}  # kept by REINFORCE in the same way
STAGES |= {
    name: [grid({"--baseline-lr": GRID_LR, "--baseline-passes": GRID_PASSES[method.over]})]
    for name, method in METHODS.items()
}


def search_cells(method, cells, out, workers, flags):
    """[score by seed] of each of these {flag: value}."""
    name = "dareu" if method == "reinforce" else method
    models, jobs, runs = {}, {}, [[] for _ in cells]
    for seed, n_forget in SEEDS.items():
        given = ["--data", DATA, "--seed", seed, "--n-forget", n_forget, "--no-curve", *flags]
        base = folder_of(out, "models", seed)
        models[base] = Job(base, [*given, "--methods", "ga", "--baseline-steps", 1])
        for cell, own_runs in zip(cells, runs, strict=True):
            folder = folder_of(out, "-".join([method, *map(str, cell.values())]), seed)
            command = [*given, "--methods", name, *itertools.chain(*cell.items())]
            jobs[folder] = Job(folder, command, reuse=base)
            own_runs.append(folder)
    run_all(models, workers)  # which all others take over
    results = run_all(jobs, workers)
    scores = {
        folder: overall_score(result["models"][name], result["models"]["retrained"])
        for folder, result in results.items()
    }
    return [[round(scores[folder], 3) for folder in own] for own in runs]  # a smaller gap is none


def search_method(method, out, workers, flags):
    """{"chosen": {flag: value} of the highest mean score, the first of several; "grid": all}."""
    best, tried = {"flags": {}, "scores": []}, []
    for stage in STAGES[method]:
        cells = [best["flags"] | cell for cell in stage]
        found = search_cells(method, cells, out, workers, flags=flags)
        made = [{"flags": c, "scores": own} for c, own in zip(cells, found, strict=True)]
        kept = PPO_VALUES if method == "reinforce" else PAPERS_VALUES
        best = choose(made, kept.items() & set().union(*map(dict.items, stage)))
        tried += made
    return {"chosen": best["flags"], "grid": tried}


def choose(cells, papers_values):
    """The cell of the highest mean score. Where some have the paper's values, {(flag, value)}, the
    best of these, unless the gain is larger than the standard deviation of its own scores."""

    def mean_score(cell):
        return mean(cell["scores"])

    best = max(cells, key=mean_score)
    of_paper = [cell for cell in cells if papers_values <= cell["flags"].items()]
    if not papers_values or not of_paper:
        return best
    paper = max(of_paper, key=mean_score)
    gain = mean_score(best) - mean_score(paper)
    return best if gain > pstdev(paper["scores"]) else paper


def search(names, out, workers, flags=()):
    """Search the methods of these names, or all, and write SEARCH_FILE; the others stay there."""
    for name in names:
        if name not in STAGES:
            raise InputError(
                f"search: no method is called {name!r}; choose from {', '.join(STAGES)}"
            )
    found = json.loads(SEARCH_FILE.read_text(encoding="utf-8")) if SEARCH_FILE.exists() else {}
    found["seeds and owners forgotten"] = SEEDS
    found["chosen by"] = "mean of ToW x (1 - |facts above|) x min(1, 2 / perplexity ratio)"
    for name in names or STAGES:
        found.setdefault("methods", {})[name] = search_method(name, out, workers, flags)
        print(f"{name:<12}{found['methods'][name]['chosen']}")
        write_json(SEARCH_FILE, found)
