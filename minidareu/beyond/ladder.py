"""What is each change from DareU to DareU+ for, and does the reward do the forgetting?

    python -m minidareu.beyond.ladder                 ladder.json and ladder.md in runs/ladder
    python -m minidareu.beyond.ladder --only controls

A row is run again with controls in the place of its attribution (`controls.py`). The *credit* is
the share of the forgetting of facts that the attribution answers for:

    credit = (fact recall under the control - fact recall) / (1 - fact recall)

0: what says nothing forgets as well; 1: without the attribution nothing is forgotten. It sees facts
alone, so ToW, names and language stand beside it. Goes on where it was cut.
"""

import os
from pathlib import Path

from ..files import InputError, write_json, write_text
from ..report.markdown import spread, table
from ..run.cli import make_parser, positive, run_main, seed_number, split_flags
from ..run.pool import folder_of, run_variants
from .attacks import prefix
from .controls import CONTROLS
from .finished import open_evaluator

DAREU, PLUS = ["--methods", "dareu"], ["--methods", "dareu_plus"]
REINFORCE = ["--algorithm", "reinforce"]

# Each row: flags of train.py. In the ladder a row has the changes of all rows before it.
LADDER = {
    "DareU": DAREU,
    "REINFORCE, new responses for each update": [*DAREU, *REINFORCE],
    "DareU+": PLUS,
    "DareU+ with half the updates": [*PLUS, "--plus-updates", 64],
    "DareU+ without beginnings": [*PLUS, "--plus-beginnings", 0],
    "DareU+ without the KL": [*PLUS, "--plus-kl-coef", 0],
    "DareU+ with lambda_dis 2": [*PLUS, "--plus-distill-coef", 2],
}
ROWS = {
    "DareU": DAREU,
    "DareU+": PLUS,
    "DareU, advantages not whitened": [*DAREU, "--whiten", "none"],
}
TABLES = {"ladder": LADDER, "controls": ROWS}


def rewards_of(name, label):
    """The rewards that a row is run with, its own first."""
    if name == "controls":
        return ["slices", *(CONTROLS if label in ("DareU", "DareU+") else ["constant", "shuffled"])]
    if label.startswith("DareU+ "):
        return ["slices"]  # a setting of DareU+, not a step towards it
    return ["slices", "constant"]


def credit(fact_recall, control_recall):
    """The share of the forgetting that the attribution answers for; None where nothing is
    forgotten."""
    if fact_recall is None or fact_recall >= 1:
        return None
    return (control_recall - fact_recall) / (1 - fact_recall)


def ratio(perplexity, retrained_perplexity):
    """None where a broken model's responses have no perplexity."""
    return None if perplexity is None else perplexity / retrained_perplexity


def unlearned(results):
    """The scores of the one method of a run."""
    return results["models"][results["config"]["methods"]]


def measure_row(runs):
    """{column: value of each seed} of the runs of one row with one reward."""
    scores = [unlearned(r) for r in runs]
    retrained = [r["models"]["retrained"] for r in runs]
    pairs = list(zip(scores, retrained, strict=True))
    return {
        "ToW": [s["tow"] for s in scores],
        "D_F above retrained": [s["forget"] - t["forget"] for s, t in pairs],
        "fact recall": [s["fact_recall"] for s in scores],
        "fact recall, retrained": [t["fact_recall"] for t in retrained],
        "name kept": [s["name_kept"] for s in scores],
        "perplexity ratio": [ratio(s["perplexity"], t["perplexity"]) for s, t in pairs],
    }


def words_given(folder):
    """Fact recall with the first 8 words of the truth put into a model's mouth: the run's unlearned
    model, the retrained one."""
    run, models, evaluator = open_evaluator(folder, "cpu")
    names = [run.config.methods, "retrained"]
    return [prefix(models[name], evaluator.forget, evaluator, 8) for name in names]


def of_retraining(results):
    """Seconds of the one method of a run over those of retraining."""
    seconds = results["seconds"]
    return seconds[results["config"]["methods"]] / seconds["retrained"]


def measure_rows(results, name, label, seeds, out):
    """{reward: {column: value of each seed}} of a row: on the ladder with an attack and the time;
    credit of controls."""
    rewards, rows = rewards_of(name, label), {}
    for reward in rewards:
        runs = [results[f"{label} {reward}", seed] for seed in seeds]
        rows[reward] = measure_row(runs)
        if name == "ladder":
            folders = [folder_of(out, f"{label} {reward}", seed) for seed in seeds]
            own, retrained = zip(*map(words_given, folders), strict=True)
            rows[reward] |= {"8 words given": own, "8 words given, retrained": retrained}
            rows[reward]["of retraining's time"] = [of_retraining(run) for run in runs]
    for reward in rewards[1:]:
        recalls = zip(rows["slices"]["fact recall"], rows[reward]["fact recall"], strict=True)
        rows[reward]["credit"] = [credit(own, control) for own, control in recalls]
    return rows


def picked_rows(labels, text):
    """Those of a table's rows whose numbers are in "0,1,5". Raises InputError."""
    numbers = [number.strip() for number in text.split(",")]
    for number in numbers:
        if not (number.isascii() and number.isdigit()) or int(number) >= len(labels):
            raise InputError(
                f"--rows: there is no row {number!r}; give numbers from 0 to {len(labels) - 1}"
            )
    return [labels[int(number)] for number in numbers]


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.ladder")
    parser.add_argument("--only", help="ladder or controls (default: both)")
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", default=[0, 1, 2, 3, 4], help="of the runs"
    )
    parser.add_argument("--rows", help="rows to make, by their numbers, 0 first: 0,1,5")
    parser.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="runs side by side"
    )
    parser.add_argument("--flags", default="", help="more flags for train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/ladder"), help="folder of the runs")
    args = parser.parse_args(argv)
    if args.only and args.only not in TABLES:
        raise InputError(f"--only: no table is called {args.only!r}; use ladder or controls")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.only] if args.only else TABLES:
        labels = list(TABLES[name])
        if args.rows:
            labels = picked_rows(labels, args.rows)
        variants = {
            f"{label} {reward}": [*TABLES[name][label], "--reward", reward]
            for label in labels
            for reward in rewards_of(name, label)
        }
        results = run_variants(
            variants, args.seeds, args.out, args.workers, flags=split_flags(args.flags)
        )
        rows = {
            label: measure_rows(results, name, label, args.seeds, out=args.out) for label in labels
        }
        write_json(args.out / f"{name}.json", {"seeds": args.seeds, "rows": rows})
        lines = {
            label if reward == "slices" else f"{label}: {reward}": row
            for label, by_reward in rows.items()
            for reward, row in by_reward.items()
        }
        columns = dict.fromkeys(column for row in lines.values() for column in row)
        cells = [
            [label, *(spread(row[column]) if column in row else "" for column in columns)]
            for label, row in lines.items()
        ]
        text = "\n".join(table(["", *columns], cells)) + "\n"
        write_text(args.out / f"{name}.md", text)
        print(text)


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.ladder")
