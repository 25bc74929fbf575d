"""Can the result be trusted? Attacks on every model of a finished run, and the proxy beside exact attribution.

    python -m minidareu.audit --run runs/authors-seed0          audit.json, audit.md and figures in the folder of the run
    python -m minidareu.audit --run RUN RUN ... --out DIR       an audit.json in each; medians over the runs in DIR

Exact attribution is a mean over target and retrained models of several seeds; those that are missing are trained, into --exact. Where
`python -m minidareu.exact` has left all its models there, the classifier is compared owner by owner too. What is done is kept.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from . import attacks
from .benchmark import spread, table
from .cli import make_parser, run_main
from .data import InputError, write, write_json
from .exact import load_model, model_path, train_models
from .experiment import load_run, new_yardstick, pick_device, read_config
from .proxy import proxy_quality

SHOWN = [0, 4, 16, 64]  # steps of relearning that are in the table
REGAINED = 0.8  # of a recall, after how many steps?
KINDS = ["exact", "added", "response", "judge"]  # of attribution


def read_audit(run):
    """The dict of a run's audit.json as far as it has come; a new one where there is none, or where the run has other results since."""
    key = hashlib.sha256(json.dumps(json.loads((run / "results.json").read_text(encoding="utf-8"))["models"]).encode()).hexdigest()
    try:
        found = json.loads((run / "audit.json").read_text(encoding="utf-8"))
        if found["key"] == key:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"key": key, "run": str(run), "attacks": {}, "relearning": {}}


def attack_run(run, device, threads=None):
    """Attacks on every model of a run, into its audit.json, which is written after each."""
    if threads:
        torch.set_num_threads(threads)
    found, (e, models, classifiers) = read_audit(run), load_run(run, device)
    y = new_yardstick(e, *classifiers, models)
    pairs, retain = [e.pairs[r] for r in e.split.forget], [e.pairs[r] for r in e.split.retain]
    bar = tqdm([name for name in models if name not in found["attacks"]], desc=f"{run.name}: attacks", disable=None)
    for name in bar:
        found["attacks"][name], found["relearning"][name] = attacks.attack(models[name], y, pairs, retain, e.config.seed)
        if found["attacks"][name]["none"] is None:
            raise InputError(f"{run}: no word of the forget set is telling (all owners have them, or the prompts); there is nothing to attack")
        bar.set_postfix(best=f"{max(value for value in found['attacks'][name].values() if value is not None):.3f}")
        write_json(run / "audit.json", found)


def compare_proxy(run, exact_dir, seeds, device, workers):
    """The proxy beside exact attribution, into a run's audit.json. Trains the target and retrained models of `seeds` that are missing."""
    found, whole = read_audit(run), (exact_dir / "exact.json").exists()
    if found.get("proxy", {}).get("seeds") != seeds or whole and "owners" not in found["proxy"]:
        e, models, classifiers = load_run(run, device)
        y = new_yardstick(e, *classifiers, models)
        sets = [], e.forget_owners
        for name, left_out in zip(("target", "retrained"), sets):
            path = model_path(exact_dir, e.config.seed, left_out)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                shutil.copy(run / f"{name}.pt", path)
        train_models(e, exact_dir, [(seed, left_out) for seed in seeds for left_out in sets], device, workers)
        trained = [[load_model(e, model_path(exact_dir, seed, left_out), device) for left_out in sets] for seed in seeds]
        found["proxy"] = {"seeds": seeds, **proxy_quality(e, trained, y, exact_dir if whole else None, device)}
        write_json(run / "audit.json", found)
    return found


def median_steps(values):
    """Median of numbers of steps, None for one that is beyond the last."""
    middle = sorted(float("inf") if n is None else n for n in values)[len(values) // 2]
    return f"{middle:.1f}" if middle < float("inf") else f"not in {attacks.STEPS[-1]}"


def attack_tables(found):
    """Lines of Markdown: medians and ranges over audits."""
    first = found[0]
    lines = ["", "Fact recall under attack: the retrained model's, and how much more the others give away."]
    rows = [["retrained", *(spread([f["attacks"]["retrained"][name] for f in found]) for name in first["attacks"]["target"])]]
    for model in [name for name in first["attacks"] if name != "retrained"]:
        pairs = [[(f["attacks"][model][name], f["attacks"]["retrained"][name]) for f in found] for name in first["attacks"][model]]
        rows.append([model, *(spread([None if value is None else value - floor for value, floor in column]) for column in pairs)])
    lines += table(["model", *first["attacks"]["target"]], rows)

    for kind in first["relearning"]["target"]:
        lines += ["", f"Relearning {kind}: fact recall on the others along the steps, and steps until it is at {REGAINED:.0%} of what the target "
                      "model began with, and of the highest that the retrained model comes to:"]
        rows = []
        for model in first["relearning"]:
            curves = [f["relearning"][model][kind] for f in found]
            levels = [(f["relearning"]["target"][kind][0][1], max(value for _, value in f["relearning"]["retrained"][kind])) for f in found]
            steps = zip(*([attacks.steps_to(curve, REGAINED * level) for level in pair] for curve, pair in zip(curves, levels)))
            rows.append([model, *(spread([dict(curve)[step] for curve in curves]) for step in SHOWN), *map(median_steps, steps)])
        lines += table(["model", *(f"step {step}" for step in SHOWN), "steps to the target's", "to the retrained model's"], rows)

    return lines


def proxy_tables(found):
    """The same of the proxy."""
    first = found[0]
    lines = ["", "The proxy beside exact attribution to the forget set. Spearman's correlation (another seed: of the exact one of a seed with the "
                  "others'); the share of the responses that clearly owe something to the forget set; the AUC of telling them from the rest:"]
    rows = []
    for label in first["proxy"]["agreement"]:
        points = [f["proxy"]["agreement"][label] for f in found if label in f["proxy"]["agreement"]]
        rows.append([label, *(spread([p["spearman"][name] for p in points]) for name in (*KINDS[1:], "another seed")),
                     spread([p["owes"] for p in points]), *(spread([p["auc"][name] for p in points]) for name in KINDS[1:])])
    heads = [*(f"Spearman, {name}" for name in (*KINDS[1:], "another seed")), "share", *(f"AUC, {name}" for name in KINDS[1:])]
    lines += table(["responses", *heads], rows)
    lines += ["", f"Expected calibration error on unseen wordings: {spread([f['proxy']['calibration_error'] for f in found])}",
              "", "Mean attribution of responses to the forget prompts (exact: nats a token):"]
    rows = [[name, *(spread([f["proxy"]["probes"][name][key] for f in found if name in f["proxy"]["probes"]]) for key in KINDS)]
            for name in first["proxy"]["probes"]]
    lines += table(["responses", *KINDS], rows)
    owners = [f["proxy"]["owners"] for f in found if "owners" in f["proxy"]]
    if owners:
        lines += ["", "Owner by owner: is the classifier's most likely owner the one of the highest exact attribution? Calibration error on the "
                      f"target's samples: {spread([o['calibration_error'] for o in owners])}"]
        labels, columns = list(owners[0]["agreement"]), list(owners[0]["agreement"]["training responses"])
        lines += table(["responses", *columns], [[label, *(spread([o["agreement"][label][key] for o in owners if label in o["agreement"]])
                                                           for key in columns)] for label in labels])
    return lines


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.audit")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of finished runs, of one dataset and the same methods")
    parser.add_argument("--exact", type=Path, help="folder of the models of other seeds (default: runs/exact-<dataset>)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="their seeds (default: 0 1 2 3 4)")
    parser.add_argument("--out", type=Path, help="folder of the tables and figures (default: the first run)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes side by side, on a CPU (default: one a core)")
    args = parser.parse_args(argv)
    device, configs = pick_device(args.device), [read_config(run) for run in args.run]
    for run, config in zip(args.run, configs):
        if (config.data, config.methods) != (configs[0].data, configs[0].methods):
            raise InputError(f"--run {run}: has other data or methods than {args.run[0]}; give runs that have the same")
    exact_dir, workers = args.exact or Path(f"runs/exact-{Path(configs[0].data).stem}"), args.workers if device == "cpu" else 1
    if min(len(args.run), workers) > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(attack_run, args.run, [device] * len(args.run), [max(1, os.cpu_count() // workers)] * len(args.run)))
    else:
        for run in args.run:
            attack_run(run, device)
    found = [compare_proxy(run, exact_dir, args.seeds, device, workers) for run in args.run]
    out = args.out or args.run[0]
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(attack_tables(found) + proxy_tables(found)) + "\n"
    write(out / "audit.md", lambda tmp: tmp.write_text(text, encoding="utf-8"))
    print(text)
    try:
        from .plot import plot_attacks, plot_proxy
        write(out / "attacks.png", lambda tmp: plot_attacks(found, tmp))
        write(out / "proxy.png", lambda tmp: plot_proxy(found, tmp))
    except ImportError:
        print("No figures: they need matplotlib (pip install -e '.[plot]').")


if __name__ == "__main__":
    run_main(main, "minidareu.audit")
