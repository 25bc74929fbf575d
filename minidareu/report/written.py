"""What a run writes."""

import platform
import time
from dataclasses import asdict

import numpy
import tiktoken
import torch

from ..files import find, write_json, write_lines
from ..scores.chunks import owner_accuracy
from ..run.folder import FIGURE, LOG, RESULTS, SAMPLES
from .details import N_RETAIN, describe, spread_rows
from .page import write_report
from .plot import draw, plot_run
from .printed import ceiling, run_warnings


def sample_rows(run, evaluations, details):
    """A dict for each forget prompt: prompt, reference, and for each model its response, the
    attribution, and what `describe` tells of it."""
    rows = []
    for i, r in enumerate(run.split.forget):
        row = {"prompt": r.prompt, "reference": r.response}
        for name, evaluation in evaluations.items():
            text, attribution = evaluation.responses.texts[i], evaluation.attributions[i]
            row[name] = {"response": text, "attribution": attribution, **details[name][i]}
        rows.append(row)
    return rows


def retain_rows(evaluation, evaluator):
    """Prompt, reference and response of some retain rows, for the page."""
    return [
        {
            "prompt": evaluator.retain[i].prompt,
            "reference": evaluator.retain[i].response,
            "response": evaluation.retain_texts[i],
        }
        for i in spread_rows(evaluator.retain, N_RETAIN)
    ]


def costs(run):
    """{"seconds": {stage: value}, ...} of a run's stages."""
    found = {title: {} for title in ("seconds", "memory", "passes", "keys")}
    for name, stage in run.stages.items():
        found["seconds"][name], found["memory"][name] = stage["seconds"], stage["memory"]
        found["keys"][name] = stage["key"]
        if "passes" in stage:
            found["passes"][name] = stage["passes"]
    kept = sum(stage["seconds"] for stage in run.stages.values() if stage["kept"])
    found["seconds"]["total"] = time.perf_counter() - run.began + kept
    return found


def write_results(run, evaluator, evaluations, log):
    """results.json, log.jsonl, samples.jsonl, and figure.png where matplotlib is there."""
    scores = {name: evaluation.scores for name, evaluation in evaluations.items()}
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (torch, tiktoken, numpy)}
    paths = {flag: getattr(run.config, flag) for flag in ("data", "from_run", "reuse")}
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
        "classifier_accuracy": owner_accuracy(evaluator.classifier, run.labelled(run.split.test)),
        "models": scores,
        "ceiling": ceiling(evaluations),
        "warnings": run_warnings(evaluations),
        "retain_samples": {name: retain_rows(e, evaluator) for name, e in evaluations.items()},
        **costs(run),
    }
    details = {name: describe(e.responses, evaluator) for name, e in evaluations.items()}
    write_lines(run.folder / LOG, log)
    write_lines(run.folder / SAMPLES, sample_rows(run, evaluations, details))
    write_json(run.folder / RESULTS, results)
    write_report(run.folder)
    draw(run.folder / FIGURE, plot_run, log, scores)
