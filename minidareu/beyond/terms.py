"""Which part of DareU, and of DareU+, does what? Each is taken away, one at a time.

    python -m minidareu.beyond.terms                  terms.json and terms.md in runs/terms

The first rows are runs of `train.py`: DareU, DareU+ and its parts, more owners forgotten, the data
whose answers name their owner. The last are DareU again from the models of the first row, with a
change in its code. Goes on where it was cut.
"""

import copy
import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR

from .. import attribution, dareu
from ..files import InputError, write_json, write_text
from ..metrics import overall_score
from ..report.markdown import spread, table
from ..run.cli import make_parser, positive, run_main, seed_number, split_flags
from ..run.prepare import make_task
from ..run.pool import ROOT, folder_of, kept_json, run_variants, side_by_side
from ..run.stages import new_classifier
from ..scores.evaluation import evaluate
from .controls import controlled
from .finished import open_evaluator

NAMED = ["--data", ROOT / "data/named/named.jsonl"]
ADDED = [*NAMED, "--attribution", "added"]
PLUS = ["--methods", "dareu_plus"]
TEN = ["--n-forget", 10]
RUNS = {
    "DareU": [],
    "gradient ascent": ["--methods", "ga"],
    "NPO": ["--methods", "npo"],
    "IDK": ["--methods", "idkpo"],
    "SimNPO": ["--methods", "simnpo"],
    "REINFORCE": ["--algorithm", "reinforce"],
    "DareU+": PLUS,
    "DareU+: random": [*PLUS, "--reward", "random"],
    "DareU+: shuffled": [*PLUS, "--reward", "shuffled"],
    "DareU+ without beginnings": [*PLUS, "--plus-beginnings", 0],
    "DareU+ without the KL": [*PLUS, "--plus-kl-coef", 0],
    "DareU+ with lambda_dis 2": [*PLUS, "--plus-distill-coef", 2],
    "4 owners": ["--n-forget", 4],
    "10 owners": TEN,
    "10 owners, DareU+": [*TEN, *PLUS],
    "10 owners, S_PPO 20, 1 data epoch": [*TEN, "--ppo-steps", 20, "--data-epochs", 1],
    "names": NAMED,
    "names, `--attribution added`": ADDED,
    "names, `--attribution added --gamma 0.8`": [*ADDED, "--gamma", 0.8],
    "names, `--attribution added`, DareU+": [*ADDED, *PLUS],
}
# Whose models a run takes over: those of the first row that begins so. The others have their own.
FIRST_ROWS = ["10 owners", "names, `--attribution added`"]


def no_objective(logp: Tensor, *others: object, **more: object) -> Tensor:
    """J multiplied by 0."""
    return 0 * logp.sum()


def value_through_policy(learner: dareu.Learner, hidden: Tensor) -> Tensor:
    """V on states that are not detached: its loss trains the policy too."""
    return learner.value_head(hidden).squeeze(2)


def last_token_loss(classifier, idx: Tensor, owner: Tensor) -> tuple[Tensor, int, int]:
    """-log DA_c of whole responses alone."""
    last = (idx >= 0).sum(dim=1) - 1
    logits = classifier(idx.clamp(min=0))[torch.arange(len(idx), device=idx.device), last]
    n_right = int((logits.argmax(dim=-1) == owner).sum())
    return F.cross_entropy(logits, owner), n_right, len(idx)


def constant_rate(optimizer: torch.optim.Optimizer, *others: object, **more: object) -> ConstantLR:
    """A learning rate that does not fall."""
    return ConstantLR(optimizer, factor=1.0)


@dataclass
class Change:
    """What is other than in DareU: settings, or functions."""

    settings: dict = field(default_factory=dict)
    functions: dict[str, Callable] = field(default_factory=dict)  # by their place in minidareu
    trains_classifier: bool = False
    twice_the_updates: bool = False


NO_OBJECTIVE: dict[str, Callable] = {"rl.ppo_loss": no_objective}
VALUE_THROUGH_POLICY: dict[str, Callable] = {"dareu.value": value_through_policy}
LAST_TOKEN: dict[str, Callable] = {"attribution.owner_loss": last_token_loss}
CONSTANT_RATE: dict[str, Callable] = {"dareu.LinearLR": constant_rate}

CHANGES = {  # of DareU
    "without J": Change(functions=NO_OBJECTIVE),
    "without J, V on the policy": Change(functions=NO_OBJECTIVE | VALUE_THROUGH_POLICY),
    "attribution: constant": Change({"reward": "constant"}),
    "attribution: random": Change({"reward": "random"}),
    "attribution: shuffled": Change({"reward": "shuffled"}),
    "without the KL": Change({"kl_coef": 0.0}),
    "pi_old of the data epoch": Change({"renew_old_policy": "epoch"}),
    "without L_dis": Change({"distill_coef": 0.0}),
    "V on the policy": Change(functions=VALUE_THROUGH_POLICY),
    "classifier of the last token": Change(functions=LAST_TOKEN, trains_classifier=True),
    "twice the updates": Change(twice_the_updates=True),
    "twice the updates, constant rate": Change(functions=CONSTANT_RATE, twice_the_updates=True),
}


def forget_again(folder: Path, label: str) -> dict[str, float | None]:
    """Scores of DareU under a change, from the models of a finished run."""
    run, models, evaluator = open_evaluator(folder, "cpu")
    change = CHANGES[label]
    run.config = replace(run.config, **change.settings)
    if change.twice_the_updates:
        assert run.config.data_epochs, "`prepare` has set them"
        run.config.data_epochs *= 2
    policy = copy.deepcopy(models["original"]).requires_grad_(True)
    with ExitStack() as patched:
        for name, function in change.functions.items():
            patched.enter_context(patch(f"minidareu.{name}", function))
        classifier = evaluator.classifier
        if change.trains_classifier:
            classifier = new_classifier(run)
            training = run.config.classifier_training
            attribution.train_classifier(classifier, run.labelled(run.train), training)
        attribute = partial(attribution.prefix_attribution, classifier)
        task = make_task(run, controlled(attribute, run.config.reward))
        for _ in dareu.unlearn(policy, task, run.config):
            pass
    retrained = evaluate(models["retrained"], evaluator)
    return evaluate(policy, evaluator, retrained).scores


def kept_scores(folder: Path, label: str, keys: dict) -> dict[str, float | None]:
    """The scores of `forget_again`, kept beside the run's folder. keys: of the run's models."""
    path = folder.with_name(f"{folder.name}-{list(CHANGES).index(label)}.json")
    return kept_json(path, f"{label} {keys}", partial(forget_again, folder, label))


def base_of(label: str) -> str:
    """The row whose models a run takes over."""
    if label in ("4 owners", "names"):
        return label
    return next((first for first in FIRST_ROWS if label.startswith(first)), "DareU")


def picked(labels, beginnings: list[str] | None) -> list[str]:
    """Those of the labels that begin so; None: all. Raises InputError where none does."""
    found = [x for x in labels if beginnings is None or x.startswith(tuple(beginnings))]
    if not found:
        raise InputError(f"--rows: none begins so; choose from {', '.join([*RUNS, *CHANGES])}")
    return found


def columns_of(scores: dict, retrained: dict) -> dict[str, float | None]:
    """A row's columns, for one seed."""
    return {
        "score": overall_score(scores, retrained),
        "ToW": scores["tow"],
        "D_F above retrained": scores["forget"] - retrained["forget"],
        "facts above retrained": scores["fact_recall"] - retrained["fact_recall"],
        "perplexity ratio": (scores["perplexity"] or float("inf")) / retrained["perplexity"],
        "retain": scores["retain"],
        "attribution": scores["attribution"],
    }


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.terms")
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", default=[1, 2, 3, 4, 5], help="of the runs"
    )
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="runs side by side"
    )
    parser.add_argument("--rows", nargs="+", help="make these alone, by how their names begin")
    parser.add_argument("--flags", default="", help="more flags for train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/terms"), help="folder of the runs")
    args = parser.parse_args(argv)
    flags = ["--methods", "dareu", "--no-curve", *split_flags(args.flags)]
    labels = picked([*RUNS, *CHANGES], args.rows)
    bases = {label: base_of(label) for label in labels if label in RUNS}
    needed = list(dict.fromkeys(["DareU", *bases.values(), *bases]))
    variants, bases = {x: RUNS[x] for x in needed}, {x: base_of(x) for x in needed}
    results = run_variants(variants, args.seeds, args.out, args.workers, flags=flags, bases=bases)
    rows: dict[str, list[dict]] = {label: [] for label in ["DareU", *labels]}
    for label, seed in itertools.product(rows.keys() & RUNS, args.seeds):
        models = results[label, seed]["models"]
        method = results[label, seed]["config"]["methods"]
        columns = columns_of(models[method], models["retrained"])
        given = [models[name]["eight_words_given"] for name in (method, "retrained")]
        columns["8 words given, above"] = None if None in given else given[0] - given[1]
        columns["new words"] = models[method]["new_words"]
        rows[label].append(columns)
    jobs = {}
    for label, seed in itertools.product(rows.keys() & CHANGES, args.seeds):
        folder, keys = folder_of(args.out, "DareU", seed), results["DareU", seed]["keys"]
        jobs[label, seed] = (kept_scores, folder, label, keys)
    found = side_by_side(jobs, args.workers, "changes")
    for label, seed in jobs:
        retrained = results["DareU", seed]["models"]["retrained"]
        rows[label].append(columns_of(found[label, seed], retrained))
    write_json(args.out / "terms.json", {"seeds": args.seeds, "rows": rows})
    titles = list(rows["DareU"][0])
    cells = [
        [label, *(spread([row.get(title) for row in by_seed]) for title in titles)]
        for label, by_seed in rows.items()
    ]
    text = "\n".join(table(["", *titles], cells)) + "\n"
    write_text(args.out / "terms.md", text)
    print(text)


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.terms")
