"""Attacks on every model of finished runs: how much more do they tell than the retrained model?

    python -m minidareu.beyond.audit --run runs/authors-seed0
    python -m minidareu.beyond.audit --run runs/a-seed1 runs/a-seed2      medians over runs

Leaves audit.json in each run's folder, and the table beside the first. Goes on where it was cut.
"""

import json
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..files import InputError, write_text
from ..report.markdown import spread, table
from ..run.cli import make_parser, run_main
from ..run.folder import read_config, read_results
from ..run.pool import kept_json
from ..run.prepare import pick_device
from . import attacks
from .finished import open_evaluator


def attack_models(folder, device):
    """{model: {attack: fact recall}} of a run."""
    run, models, evaluator = open_evaluator(folder, device)
    pairs, retain = run.references(run.split.forget), run.references(run.split.retain)
    found = {
        name: attacks.attack(model, evaluator, pairs, retain, seed=run.config.seed)
        for name, model in models.items()
    }
    if found["original"]["none"] is None:
        raise InputError(
            f"{folder}: no word of the forget set is informative (all owners have them, or the "
            "prompts); there is nothing to attack"
        )
    return found


def attack_run(folder, device):
    """The same, kept in the run's folder."""
    results = read_results(folder)
    facts = json.dumps([results["models"], results["keys"]])
    return kept_json(folder / "audit.json", facts, partial(attack_models, folder, device))


def attack_table(found):
    """Lines of Markdown: fact recall of the retrained model, and how much more the others tell."""
    names = list(found[0]["original"])
    rows = [["retrained", *(spread([f["retrained"][name] for f in found]) for name in names)]]
    for model in [model for model in found[0] if model != "retrained"]:
        cells = []
        for name in names:
            pairs = [(f[model][name], f["retrained"][name]) for f in found]
            cells.append(spread([a - b for a, b in pairs if None not in (a, b)]))
        rows.append([f"{model}: more than that", *cells])
    return table(["fact recall", *names], rows)


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.audit")
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="finished runs of the same methods"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    args = parser.parse_args(argv)
    device = pick_device(args.device)
    configs = [read_config(folder) for folder in args.run]
    if len({(config.data, config.methods) for config in configs}) > 1:
        raise InputError("--run: these have other data or methods; give runs that have the same")
    found = [attack_run(folder, device) for folder in tqdm(args.run, desc="runs", disable=None)]
    text = "\n".join(attack_table(found)) + "\n"
    write_text(args.run[0] / "audit.md", text)
    print(text)


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.audit")
