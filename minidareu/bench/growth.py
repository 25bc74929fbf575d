"""What retraining, DareU and DareU+ cost as the data grow, and what they reach (ToW): runs of
`train.py` on invented authors, one after another."""

import subprocess
import sys

from ..report.markdown import spread
from ..run.pool import ROOT, Job, run_all

# Owners, and how many of them are forgotten.
CASES = [(10, 2), (20, 2), (40, 2), (80, 2), (160, 2), (80, 1), (80, 5), (80, 10), (80, 20)]
METHODS = {"dareu": "DareU", "dareu_plus": "DareU+"}


def dataset(n_owners, folder):
    """A file of so many invented authors."""
    path = folder / f"authors-{n_owners}.jsonl"
    if not path.exists():
        script = ROOT / "data/authors/prepare.py"
        command = [sys.executable, str(script), "--owners", str(n_owners), "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def growth(folder, n_seeds):
    """Head and rows of the table, and its figures."""
    jobs, lines, figures = {}, [], {}
    for n_owners, n_forget in CASES:
        for seed in range(n_seeds):
            flags = ["--data", dataset(n_owners, folder), "--n-forget", n_forget, "--seed", seed]
            flags += ["--methods", ",".join(METHODS)]
            place = folder / f"owners-{n_owners}-forget-{n_forget}-seed{seed}"
            jobs[n_owners, n_forget, seed] = Job(place, flags)
    results = run_all(jobs, workers=1)
    for n_owners, n_forget in CASES:
        runs = [results[n_owners, n_forget, seed] for seed in range(n_seeds)]
        retraining = [run["seconds"]["retrained"] for run in runs]
        columns = {"retraining, s": retraining}
        for name, title in METHODS.items():
            seconds = [run["seconds"][name] for run in runs]
            columns[f"{title}, s"] = seconds
            pairs = zip(seconds, retraining, strict=True)
            columns[f"{title} of retraining"] = [own / other for own, other in pairs]
            columns[f"{title}, ToW"] = [run["models"][name]["tow"] for run in runs]
        lines.append([str(n_owners), str(n_forget), *map(spread, columns.values())])
        figures[f"{n_owners} owners, {n_forget} forgotten"] = columns
    return ["owners", "forgotten", *columns], lines, figures
