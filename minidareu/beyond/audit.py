"""Does it stay forgotten? Attacks on every model of a finished run.

    python -m minidareu.beyond.audit --run runs/authors-seed0       audit.json, audit.md and
                                                                    attacks.png in its folder
    python -m minidareu.beyond.audit --run RUN RUN ... --out DIR    an audit.json in each; medians
                                                                    over the runs in DIR

What is done is kept.
"""

import hashlib
import json
import os
from pathlib import Path

from tqdm import tqdm

from ..files import InputError, write_json, write_text
from ..report.markdown import spread, table
from ..report.plot import draw
from ..run.cli import make_parser, positive, run_main
from ..run.folder import RESULTS, read_config
from ..run.pool import side_by_side
from ..run.prepare import pick_device
from . import attacks
from .finished import open_evaluator
from .plot import plot_attacks

REGAINED = 0.8  # of a recall, after how many steps?


def digest(value):
    """A digest of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def read_audit(folder):
    """A run's audit.json as far as it has come; a new dict where its results have changed."""
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    key = digest([results["models"], results.get("keys")])
    try:
        found = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
        if found["key"] == key:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"key": key, "run": str(folder), "attacks": {}, "relearning": {}}


def attack_run(folder, device):
    """Attacks on every model of a run, into its audit.json, which is written after each."""
    found = read_audit(folder)
    run, models, evaluator = open_evaluator(folder, device)
    pairs, retain = run.references(run.split.forget), run.references(run.split.retain)
    todo = [name for name in models if name not in found["attacks"]]
    bar = tqdm(todo, desc=f"{folder.name}: attacks", disable=None)
    for name in bar:
        recalls, curves = attacks.attack(
            models[name], evaluator, pairs, retain, seed=run.config.seed
        )
        if recalls["none"] is None:
            raise InputError(
                f"{folder}: no word of the forget set is informative (all owners have them, or the "
                "prompts); there is nothing to attack"
            )
        found["attacks"][name], found["relearning"][name] = recalls, curves
        best = max(value for value in recalls.values() if value is not None)
        bar.set_postfix(best=f"{best:.3f}")
        write_json(folder / "audit.json", found)


def median_steps(values):
    """Median of numbers of steps, None for one that is beyond the last."""
    ordered = sorted(float("inf") if n is None else n for n in values)
    middle = ordered[len(ordered) // 2]
    return f"{middle:.1f}" if middle < float("inf") else f"not in {attacks.STEPS[-1]}"


def attack_tables(found):
    """Lines of Markdown: medians and ranges over audits."""
    names = list(found[0]["attacks"]["original"])
    lines = ["", "Fact recall under attack: the retrained model's, and how much more others tell."]
    floor = [spread([f["attacks"]["retrained"][name] for f in found]) for name in names]
    rows = [["retrained", *floor]]
    for model in [name for name in found[0]["attacks"] if name != "retrained"]:
        cells = []
        for name in names:
            pairs = [(f["attacks"][model][name], f["attacks"]["retrained"][name]) for f in found]
            cells.append(spread([a - b for a, b in pairs if a is not None]))
        rows.append([model, *cells])
    lines += table(["model", *names], rows)
    for kind in found[0]["relearning"]["original"]:
        if all(kind in f["relearning"]["original"] for f in found):
            lines += relearning_table(found, kind)
    return lines


def relearning_table(found, kind):
    """Fact recall along the steps of relearning, and the steps to two levels of it."""
    lines = [
        "",
        f"Relearning {kind}: fact recall on the others along the steps, and steps until it is at "
        f"{REGAINED:.0%} of what the original model began with, and of the highest that the "
        "retrained model comes to:",
    ]
    rows = []
    for model in found[0]["relearning"]:
        curves = [f["relearning"][model][kind] for f in found]
        original = [f["relearning"]["original"][kind][0][1] for f in found]
        highest = [max(recall for _, recall in f["relearning"]["retrained"][kind]) for f in found]
        steps = []
        for levels in (original, highest):
            pairs = zip(curves, levels, strict=True)
            steps.append([attacks.steps_to(curve, REGAINED * level) for curve, level in pairs])
        recalls = [spread([dict(curve)[step] for curve in curves]) for step in attacks.SHOWN]
        rows.append([model, *recalls, *map(median_steps, steps)])
    heads = [f"step {step}" for step in attacks.SHOWN]
    return lines + table(["model", *heads, "steps to the original's", "to the retrained's"], rows)


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.audit")
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="finished runs of the same methods"
    )
    parser.add_argument("--out", type=Path, help="of tables and figures (default: first run)")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="side by side")
    args = parser.parse_args(argv)
    device, configs = pick_device(args.device), [read_config(folder) for folder in args.run]
    first = configs[0]
    for folder, config in zip(args.run, configs, strict=True):
        if (config.data, config.methods) != (first.data, first.methods):
            raise InputError(
                f"--run {folder}: has other data or methods than {args.run[0]}; "
                "give runs that have the same"
            )
    workers = args.workers if device == "cpu" else 1
    if min(len(args.run), workers) > 1:
        jobs = {folder: (attack_run, folder, device) for folder in args.run}
        for _ in side_by_side(jobs, workers):
            pass
    else:
        for folder in args.run:
            attack_run(folder, device)
    found = [read_audit(folder) for folder in args.run]
    out = args.out or args.run[0]
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(attack_tables(found)) + "\n"
    write_text(out / "audit.md", text)
    print(text)
    draw(out / "attacks.png", plot_attacks, found)


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.audit")
