"""Can the result be trusted? Attacks on every model of a finished run, and the proxy beside exact
attribution.

    python -m minidareu.beyond.audit --run runs/authors-seed0       audit.json, audit.md and figures
                                                                    in the folder of the run
    python -m minidareu.beyond.audit --run RUN RUN ... --out DIR    an audit.json in each; medians
                                                                    over the runs in DIR

Exact attribution is a mean over original and retrained models of several seeds; those that are
missing are trained, into --exact. Where `python -m minidareu.beyond.exact` has left all its models
there, the classifier is compared owner by owner too. What is done is kept.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from tqdm import tqdm

from ..files import InputError, write_json, write_text
from ..report.markdown import spread, table
from ..report.plot import draw
from ..run.cli import make_parser, positive, run_main, seed_number
from ..run.folder import RESULTS, read_config
from ..run.pool import side_by_side
from ..run.prepare import open_run, pick_device
from . import attacks
from .exact import load_exact, model_path, train_models, training_of
from .finished import open_evaluator
from .plot import plot_attacks, plot_proxy
from .proxy import proxy_quality

REGAINED = 0.8  # of a recall, after how many steps?
PROXIES = ["classifier", "judge"]


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


def compare_proxy(folder, exact_dir, seeds, device, workers):
    """The proxy beside exact attribution, into a run's audit.json.

    Trains the original and retrained models of `seeds` that are missing.
    """
    found, run = read_audit(folder), open_run(folder, device)
    left_out = {"original": [], "retrained": run.forget_owners}
    complete = exact_dir / "exact.json"
    models = [training_of(run, seed, owners)[-1] for seed in seeds for owners in left_out.values()]
    by_owner = complete.read_text(encoding="utf-8") if complete.exists() else None
    key = digest([models, str(exact_dir.resolve()), by_owner])
    if found.get("proxy", {}).get("key") == key:
        return found
    run, _, evaluator = open_evaluator(folder, device)
    for name, owners in left_out.items():
        path = model_path(exact_dir, run.config.seed, owners)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copy(run.path(name), path)
    jobs = [(seed, owners) for seed in seeds for owners in left_out.values()]
    train_models(run, exact_dir, jobs, workers=workers)
    trained = [
        [load_exact(run, exact_dir, seed, owners) for owners in left_out.values()] for seed in seeds
    ]
    quality = proxy_quality(run, trained, evaluator, exact_dir if by_owner else None)
    found["proxy"] = {"seeds": seeds, "key": key, **quality}
    write_json(folder / "audit.json", found)
    return found


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


def proxy_tables(found):
    """Agreement of the proxies with exact attribution, and responses made to mislead."""
    lines = [
        "",
        "The proxies beside exact attribution to the forget set. Spearman's correlation (another "
        "seed: of one seed's exact attribution with the others'); the share of the responses that "
        "clearly owe something to the forget set; the AUC of telling them from the rest:",
    ]
    rows = []
    for label in found[0]["proxy"]["agreement"]:
        agreements = [f["proxy"]["agreement"] for f in found]
        points = [agreement[label] for agreement in agreements if label in agreement]
        correlations = [
            spread([p["spearman"][name] for p in points]) for name in (*PROXIES, "another seed")
        ]
        areas = [spread([p["auc"][name] for p in points]) for name in PROXIES]
        rows.append([label, *correlations, spread([p["owes"] for p in points]), *areas])
    heads = [f"Spearman, {name}" for name in (*PROXIES, "another seed")]
    heads += ["share", *(f"AUC, {name}" for name in PROXIES)]
    lines += table(["responses", *heads], rows)
    errors = [f["proxy"]["calibration_error"] for f in found]
    lines += ["", f"Expected calibration error on unseen wordings: {spread(errors)}", ""]
    lines += ["Mean attribution of responses to the forget prompts (exact: nats a token):"]
    kinds, rows = ["exact", *PROXIES], []
    for name in found[0]["proxy"]["probes"]:
        probes = [f["proxy"]["probes"][name] for f in found if name in f["proxy"]["probes"]]
        rows.append([name, *(spread([probe[kind] for probe in probes]) for kind in kinds)])
    lines += table(["responses", *kinds], rows)
    return lines + owner_table([f["proxy"]["owners"] for f in found if "owners" in f["proxy"]])


def owner_table(owners):
    """The classifier's most likely owner beside the one of the highest exact attribution."""
    if not owners:
        return []
    errors = spread([o["calibration_error"] for o in owners])
    lines = [
        "",
        "Owner by owner: is the classifier's most likely owner the one of the highest exact "
        f"attribution? Calibration error on the original model's samples: {errors}",
    ]
    columns = list(owners[0]["agreement"]["training responses"])
    rows = []
    for label in owners[0]["agreement"]:
        agreements = [o["agreement"][label] for o in owners if label in o["agreement"]]
        rows.append([label, *(spread([a[column] for a in agreements]) for column in columns)])
    return lines + table(["responses", *columns], rows)


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.audit")
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="finished runs of the same methods"
    )
    parser.add_argument("--exact", type=Path, help="models (default: runs/exact-<dataset>)")
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4"
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
    exact_dir = args.exact or Path(f"runs/exact-{Path(first.data).stem}")
    workers = args.workers if device == "cpu" else 1
    if min(len(args.run), workers) > 1:
        jobs = {folder: (attack_run, folder, device) for folder in args.run}
        for _ in side_by_side(jobs, workers):
            pass
    else:
        for folder in args.run:
            attack_run(folder, device)
    found = [
        compare_proxy(folder, exact_dir, args.seeds, device=device, workers=workers)
        for folder in args.run
    ]
    out = args.out or args.run[0]
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(attack_tables(found) + proxy_tables(found)) + "\n"
    write_text(out / "audit.md", text)
    print(text)
    draw(out / "attacks.png", plot_attacks, found)
    draw(out / "proxy.png", plot_proxy, found)


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.audit")
