"""What a run prints and writes."""

import platform
import sys
from dataclasses import asdict

import numpy
import tiktoken
import torch

from .data import data_warnings
from .files import find, write, write_json, write_lines
from .report import write_report
from .run import FIGURE, FILES, LOG, PATH_FLAGS, RESULTS, SAMPLES

# What a run prints of each model; --all-scores prints the rest.
SHOWN = {
    "forget": "forget",
    "retain": "retain",
    "test": "test",
    "tow": "ToW",
    "attribution": "attribution",
    "fact_recall": "fact recall",
    "name_kept": "name kept",
    "perplexity": "perplexity",
}
WIDTH = 100  # columns


def print_data(run):
    split = run.split
    print(
        f"{len(split.owners)} owners; to be forgotten: {', '.join(split.forget_owners)}.\n"
        f"{len(split.forget)} forget, {len(split.retain)} retain, {len(split.test)} test rows. "
        f"Device: {run.device}.",
        flush=True,
    )
    for warning in data_warnings(split):
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def print_stage(title, state):
    kept = ", kept from an earlier run" if state["kept"] else ""
    print(f"{title}: {state['seconds']:.0f} s{kept}", flush=True)


def cell(value):
    """A score as text of at most 9 characters."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10_000 else f"{value:.1e}"


def print_table(evaluations, names):
    """One aligned line a model. names: {score: title}."""
    first = max(map(len, evaluations)) + 1
    widths = [max(len(title), 8) + 1 for title in names.values()]
    heads = zip(names.values(), widths, strict=True)
    print("\n" + " " * first + "".join(f"{title:>{width}}" for title, width in heads))
    for model, evaluation in evaluations.items():
        cells = [cell(evaluation.scores[name]) for name in names]
        row = zip(cells, widths, strict=True)
        print(f"{model:<{first}}" + "".join(f"{text:>{width}}" for text, width in row))


def print_scores(evaluations, all_scores=False):
    """The table of a run; with `all_scores` further tables of at most 100 columns."""
    print_table(evaluations, SHOWN)
    if not all_scores:
        return
    rest = [name for name in evaluations["original"].scores if name not in SHOWN]
    titles = {name: name.replace("mia_", "MIA ").replace("_", " ") for name in rest}
    for i in range(0, len(rest), 5):
        print_table(evaluations, {name: titles[name] for name in rest[i : i + 5]})
    print("(model utility: of the retain set alone; TOFU's has real authors and world facts too)")


def print_ceiling(evaluations):
    """Say so where the luck of training holds down the ToW of every method: where the one retrained
    model answers the test set otherwise than the original model does."""
    original, retrained = evaluations["original"].scores, evaluations["retrained"].scores
    distance = abs(original["test"] - retrained["test"])
    if distance > 0.1 and "second_retrained" not in evaluations:
        print(
            f"\nThe retrained model's test score is {retrained['test']:.3f}, the original model's "
            f"{original['test']:.3f}: a method that leaves the test set as it is has a ToW of at "
            f"most {1 - distance:.3f}. --second-retrained shows how much of that is luck."
        )


def print_samples(run, evaluations, count=3):
    """Some forget prompts with every model's response and its attribution, and where files are."""
    forget = run.split.forget
    for i in range(0, len(forget), max(1, len(forget) // count))[:count]:
        print(f"\nforget: {forget[i].prompt}\n  {'reference':<12}{forget[i].response}")
        for name, evaluation in evaluations.items():
            text, attribution = evaluation.responses.texts[i], evaluation.attributions[i]
            print(f"  {name:<12}{text}  [attribution {attribution:.2f}]")
    there = [name for name in FILES if (run.folder / name).exists()]
    there += sorted(path.name for path in run.folder.glob("*.pt"))
    print(f"\nIn {run.folder}/: {', '.join(there)}")


def sample_rows(run, evaluations):
    """A dict for each forget prompt: prompt, reference, and for each model its response, the
    attribution, and what `details.describe` tells of it."""
    rows = []
    for i, r in enumerate(run.split.forget):
        row = {"prompt": r.prompt, "reference": r.response}
        for name, evaluation in evaluations.items():
            text, attribution = evaluation.responses.texts[i], evaluation.attributions[i]
            row[name] = {"response": text, "attribution": attribution, **evaluation.details[i]}
        rows.append(row)
    return rows


def attribution_by_owner(run, evaluation):
    """{forget owner: mean attribution of the responses to that owner's prompts}."""
    by_owner = {name: [] for name in run.split.forget_owners}
    for r, attribution in zip(run.split.forget, evaluation.attributions, strict=True):
        by_owner[r.owner].append(attribution)
    return {name: sum(values) / len(values) for name, values in by_owner.items()}


def write_results(run, evaluations, log, seconds, memory, accuracy):
    """results.json, log.jsonl, samples.jsonl, and figure.png where matplotlib is there."""
    scores = {name: evaluation.scores for name, evaluation in evaluations.items()}
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (torch, tiktoken, numpy)}
    by_owner = {name: attribution_by_owner(run, e) for name, e in evaluations.items()}
    paths = {flag: getattr(run.config, flag) for flag in PATH_FLAGS}
    results = {
        "dataset": run.config.data,
        "owners": len(run.split.owners),
        "forget": run.split.forget_owners,
        "rows": {part: len(getattr(run.split, part)) for part in ("forget", "retain", "test")},
        "seed": run.config.seed,
        "device": run.device,
        "config": asdict(run.config),
        "paths": {flag: str(find(path).resolve()) for flag, path in paths.items() if path},
        "versions": versions,
        "classifier_accuracy": accuracy,
        "models": scores,
        "attribution_by_owner": by_owner,
        "retain_samples": {name: e.retain for name, e in evaluations.items()},
        "seconds": seconds,
        "memory": memory,
    }
    write_lines(run.folder / LOG, log)
    write_lines(run.folder / SAMPLES, sample_rows(run, evaluations))
    write_json(run.folder / RESULTS, results)
    write_report(run.folder)
    try:
        from .plot import plot_run
    except ImportError:
        print("No figure: it needs matplotlib (pip install -e '.[plot]').")
    else:
        write(run.folder / FIGURE, lambda temporary: plot_run(log, scores, temporary))
