"""What is each change from DareU to DareU+ for, and does the reward do the forgetting?

    python -m minidareu.beyond.ladder                 ladder.json and ladder.md in runs/ladder
    python -m minidareu.beyond.ladder --only controls

Every row of a table is run again with controls of the reward: an attribution of 0.5 whatever the
policy says ("constant"), random numbers, and one minus the attribution ("reversed"). The *credit*
of a row is the share of its forgetting that the reward answers for:

    credit = (fact recall under the constant reward - fact recall) / (1 - fact recall)

0: a reward that says nothing forgets as well; 1: without the reward nothing is forgotten. Goes on
where it was cut.
"""

import os
from pathlib import Path
from statistics import median

from ..cli import make_parser, run_main
from ..files import InputError, write_json, write_text
from ..paper.runs import run_variants, spread, table

DAREU, PLUS = ["--methods", "dareu"], ["--methods", "dareu_plus"]
# As many responses and updates as DareU+ takes, at its learning rate.
LONG = ["--data-epochs", 48, "--forget-batch", 64, "--rl-lr", 1e-3]
NO_REFERENCE = ["--plus-reference-responses", 0]
BATCH = ["--plus-baseline", "batch"]

# Each row: flags of train.py. In the ladder a row has the changes of all rows before it.
LADDER = {
    "DareU": DAREU,
    "REINFORCE, new responses for each update": [*DAREU, "--algorithm", "reinforce", *LONG],
    "one reward for a response, KL to the original model": [
        *PLUS,
        *["--plus-attribution", "response"],
        *BATCH,
        *NO_REFERENCE,
    ],
    "attribution of what a response adds": [*PLUS, *BATCH, *NO_REFERENCE],
    "baseline of a group": [*PLUS, *NO_REFERENCE],
    "original model's response in each group: DareU+": PLUS,
    "DareU+, three times the updates": [*PLUS, "--plus-updates", 144],
}
FITTED = [*DAREU, "--value-steps", 100]
CONTROLS = {
    "DareU": DAREU,
    "advantages not whitened": [*DAREU, "--no-whiten"],
    "pi_old renewed for each batch": [*DAREU, "--renew-old-policy", "batch"],
    "C_seg 9.2: chi tells all attributions apart": [*DAREU, "--c-seg", 9.2],
    "original model less sure (8 epochs)": [*DAREU, "--epochs", 8],
    "V fitted first": FITTED,
    "V fitted first, 8 data epochs": [*FITTED, "--data-epochs", 8],
    "and 4 responses to a prompt, 5 PPO steps": [
        *FITTED,
        *["--data-epochs", 8, "--group-size", 4, "--forget-batch", 128, "--ppo-steps", 5],
    ],
    "DareU+": PLUS,
}
TABLES = {"ladder": LADDER, "controls": CONTROLS}
REWARDS = {"ladder": ["slices", "constant"]}
REWARDS["controls"] = ["slices", "constant", "random", "reversed"]


def credit(fact_recall, constant_recall):
    """The share of the forgetting that the reward answers for; None where nothing is forgotten."""
    if fact_recall is None or fact_recall >= 1:
        return None
    return (constant_recall - fact_recall) / (1 - fact_recall)


def unlearned(results):
    """The scores of the one method of a run."""
    return results["models"][results["config"]["methods"]]


def measure_row(results, label, rewards, seeds):
    """{column: value of each seed} of a row. results: {(label, reward, seed): results}."""
    own = [results[label, rewards[0], seed] for seed in seeds]
    scores = [unlearned(r) for r in own]
    retrained = [r["models"]["retrained"] for r in own]
    pairs = list(zip(scores, retrained, strict=True))
    row = {
        "ToW": [s["tow"] for s in scores],
        "fact recall": [s["fact_recall"] for s in scores],
        "retrained": [t["fact_recall"] for t in retrained],
        "name kept": [s["name_kept"] for s in scores],
        "perplexity ratio": [s["perplexity"] / t["perplexity"] for s, t in pairs],
    }
    for reward in rewards[1:]:
        recalls = [unlearned(results[label, reward, seed])["fact_recall"] for seed in seeds]
        row[f"fact recall, {reward}"] = recalls
    if len(rewards) > 2:
        for reward in rewards[1:]:
            tows = [unlearned(results[label, reward, seed])["tow"] for seed in seeds]
            row[f"ToW, {reward}"] = tows
    recalls = zip(row["fact recall"], row["fact recall, constant"], strict=True)
    row["credit"] = [credit(own, constant) for own, constant in recalls]
    return row


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.beyond.ladder")
    parser.add_argument("--only", help="ladder or controls (default: both)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the runs")
    parser.add_argument("--rows", help="rows to make, by their numbers, 0 first: 0,1,5")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side")
    parser.add_argument("--flags", default="", help="more flags for train.py, in one string")
    parser.add_argument("--out", type=Path, default=Path("runs/ladder"), help="folder of the runs")
    args = parser.parse_args(argv)
    if args.only and args.only not in TABLES:
        raise InputError(f"--only: no table is called {args.only!r}; use ladder or controls")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.only] if args.only else TABLES:
        rows = list(TABLES[name].items())
        if args.rows:
            rows = [rows[int(i)] for i in args.rows.split(",")]
        variants = {
            f"{label} {reward}": [*flags, "--reward", reward]
            for label, flags in rows
            for reward in REWARDS[name]
        }
        made = run_variants(variants, args.seeds, args.out, args.workers, args.flags.split())
        results = {
            (label, reward, seed): made[f"{label} {reward}", seed]
            for label, _ in rows
            for reward in REWARDS[name]
            for seed in args.seeds
        }
        values = {
            label: measure_row(results, label, REWARDS[name], args.seeds) for label, _ in rows
        }
        write_json(args.out / f"{name}.json", {"seeds": args.seeds, "rows": values})
        columns = list(next(iter(values.values())))
        cells = [[label, *map(spread, row.values())] for label, row in values.items()]
        text = "\n".join(table(["", *columns], cells)) + "\n"
        write_text(args.out / f"{name}.md", text)
        print(text)
        for label, row in values.items():
            known = [value for value in row["credit"] if value is not None]
            print(f"{label}: credit {median(known):.2f}" if known else f"{label}: no forgetting")


if __name__ == "__main__":
    run_main(main, "minidareu.beyond.ladder")
