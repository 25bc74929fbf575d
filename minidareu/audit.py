"""Can the result be trusted? The proxy beside exact attribution, and attacks on every model of a finished run.

    python -m minidareu.audit --run runs/authors-seed0          audit.json, audit.md and figures in the folder of the run
    python -m minidareu.audit --run RUN RUN ... --out DIR       an audit.json in each; medians over the runs in DIR

Where `python -m minidareu.exact` has left its models (--exact), the classifier is compared with exact attribution owner by owner too.
What is done already is kept.
"""

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from . import attacks
from .benchmark import spread, table
from .data import InputError, write, write_json
from .experiment import load_run, pick_device
from .proxy import proxy_quality

REGAINED = 0.8  # of the target model's recall


def audit(run, exact_dir, device, threads=None):
    """One run -> the dict of its audit.json, which is written after each model and taken up again."""
    if threads:
        torch.set_num_threads(threads)
    e, models, y = load_run(run, device)
    path, key = Path(run) / "audit.json", hashlib.sha256((Path(run) / "results.json").read_bytes()).hexdigest()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if found.get("key") != key:
        found = {"key": key, "run": str(run), "forget": e.split.forget_owners, "seed": e.config.seed, "attacks": {}, "relearning": {}}
    pairs, retain = [e.pairs[r] for r in e.split.forget], [e.pairs[r] for r in e.split.retain]
    bar = tqdm([name for name in models if name not in found["attacks"]], desc=f"{Path(run).name}: attacks", disable=None)
    for name in bar:
        found["attacks"][name], found["relearning"][name] = attacks.attack(models[name], y, pairs, retain, e.config.seed)
        bar.set_postfix(best=f"{max(value for value in found['attacks'][name].values() if value is not None):.3f}")
        write_json(path, found)
    if "proxy" not in found or exact_dir and "owners" not in found["proxy"]:
        found["proxy"] = proxy_quality(e, y, exact_dir, device)
        write_json(path, found)
    return found


def tables(found):
    """Lines of Markdown: medians and ranges over audits."""
    first = found[0]
    lines = ["", "Fact recall under attack: the retrained model's, and how much more the others give away."]
    rows = [["retrained", *(spread([f["attacks"]["retrained"][name] for f in found]) for name in first["attacks"]["target"])]]
    for model in [name for name in first["attacks"] if name != "retrained"]:
        pairs = [[(f["attacks"][model][name], f["attacks"]["retrained"][name]) for f in found] for name in first["attacks"][model]]
        rows.append([model, *(spread([None if value is None else value - floor for value, floor in column]) for column in pairs)])
    lines += table(["model", *first["attacks"]["target"]], rows)

    kinds, last = list(first["relearning"]["target"]), attacks.STEPS[-1]
    lines += ["", f"Relearning: fact recall on the rows that are not relearned, after 8 and {last} steps; and steps until it is "
                  f"{REGAINED:.0%} of the target model's (never: not within {last})."]
    rows = []
    for model in first["relearning"]:
        cells = []
        for kind in kinds:
            curves = [f["relearning"][model][kind] for f in found]
            steps = [attacks.steps_to(curve, REGAINED * f["relearning"]["target"][kind][0][1]) for curve, f in zip(curves, found)]
            median = sorted(last + 1 if n is None else n for n in steps)[len(steps) // 2]
            cells.append(f"{spread([dict(curve)[8] for curve in curves])}; {spread([curve[-1][1] for curve in curves])}; "
                         + ("never" if median > last else f"{median:.1f}"))
        rows.append([model, *cells])
    lines += table(["model", *kinds], rows)

    proxies = ["added", "response", "judge"]
    lines += ["", "Spearman's correlation with the exact attribution to the forget set:"]
    sets = [name for name in ("training responses", "target's samples", "policy's samples") if name in first["proxy"]]
    rows = [[name, *(spread([f["proxy"][name][proxy] for f in found]) for proxy in proxies)] for name in sets]
    for i in first["proxy"].get("along", {}):
        points = [f["proxy"]["along"][i] for f in found if i in f["proxy"]["along"]]
        rows.append([f"policy, iteration {i}", *(spread([p["spearman"][proxy] for p in points]) for proxy in proxies)])
    lines += table(["responses", *proxies], rows)
    lines += ["", f"Expected calibration error on unseen wordings: {spread([f['proxy']['calibration_error'] for f in found])}",
              "", "Mean attribution of responses to the forget prompts (exact: nats a token):"]
    rows = [[name, *(spread([f["proxy"]["probes"][name][key] for f in found if name in f["proxy"]["probes"]]) for key in ("exact", *proxies))]
            for name in first["proxy"]["probes"]]
    lines += table(["responses", "exact", *proxies], rows)
    owners = [f["proxy"]["owners"] for f in found if "owners" in f["proxy"]]
    if owners:
        lines += ["", "Owner by owner, on the target model's samples:"]
        keys = ["spearman", "top1_agreement", "above_noise", "top1_agreement_above_noise", "calibration_error"]
        lines += table(["Spearman", "top-1 agreement", "share of samples above the noise", "top-1 agreement there", "calibration error"],
                       [[spread([o[key] for o in owners]) for key in keys]])
    return lines


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m minidareu.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of finished runs, of one dataset and the same methods")
    parser.add_argument("--exact", type=Path, help="folder of python -m minidareu.exact (default: runs/exact-<dataset>, where it is there)")
    parser.add_argument("--out", type=Path, help="folder of the tables and figures (default: the first run)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side, on a CPU (default: one a core)")
    args = parser.parse_args(argv)
    device = pick_device(args.device)
    if args.exact and not (args.exact / "exact.json").exists():
        raise InputError(f"--exact {args.exact}: not a folder of python -m minidareu.exact; run that first, or leave the flag out")
    jobs = []
    for run in args.run:
        e = load_run(run, "cpu")[0]  # all are looked at before anything long begins
        default = Path(f"runs/exact-{Path(e.config.data).stem}")
        jobs.append((run, args.exact or (default if (default / "exact.json").exists() else None), device))
    workers = min(len(jobs), args.workers) if device == "cpu" else 1
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(pool.map(audit, *zip(*jobs), [max(1, os.cpu_count() // workers)] * len(jobs)))
    else:
        found = [audit(*job) for job in jobs]
    out = args.out or args.run[0]
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(tables(found)) + "\n"
    write(out / "audit.md", lambda tmp: tmp.write_text(text, encoding="utf-8"))
    print(text)
    try:
        from .plot import plot_attacks, plot_proxy
        write(out / "attacks.png", lambda tmp: plot_attacks(found, tmp))
        write(out / "proxy.png", lambda tmp: plot_proxy(found, tmp))
    except ImportError:
        print("No figures: they need matplotlib (pip install -e '.[plot]').")


if __name__ == "__main__":
    try:
        main()
    except InputError as e:
        sys.exit(f"minidareu.audit: error: {e}")
