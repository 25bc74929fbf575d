"""Requests that come one after another: forget an owner, then another from the models that were
left, and so on (Fig. 6 of the paper).

    python -m minidareu.paper.sequence                     ten owners of the default data, by seed
    python -m minidareu.paper.sequence --requests 3 --data mine.jsonl --seed 1

Each request is a run of `train.py --from` the one before, in a folder of its own; flags of train.py
go to all of them. Leaves sequence.json, sequence.md and sequence.png; goes on where it was cut.
"""

import os
import random
from pathlib import Path

from tqdm import tqdm

from ..cli import make_parser, run_main
from ..config import parse
from ..data import load_records
from ..files import InputError, write, write_json, write_text
from .runs import Job, run, table


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.paper.sequence")
    parser.add_argument("--requests", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: runs/<dataset>-sequence-seed<seed>")
    args, flags = parser.parse_known_args(argv)
    config = parse(flags, "")
    if config.forget or config.n_forget or config.forget_fraction or config.from_run:
        raise InputError(
            "--forget, --n-forget, --forget-fraction, --from: not for a sequence, which draws its "
            "owners; leave them out"
        )
    owners = list(dict.fromkeys(r.owner for r in load_records(config.data)))
    if not 1 <= args.requests < len(owners):
        raise InputError(
            f"--requests: {args.requests} is out of range; {config.data} has {len(owners)} owners, "
            "and one at least is retained"
        )
    name = f"runs/{Path(config.data).stem}-sequence-seed{config.seed}"
    out = args.out or Path(name)
    out.mkdir(parents=True, exist_ok=True)

    requests, begin = [], []
    drawn = random.Random(config.seed).sample(owners, args.requests)
    bar = tqdm(drawn, desc="requests", disable=None)
    for i, owner in enumerate(bar, 1):
        folder = out / f"{i:02}"
        job = Job(folder, [*flags, "--forget", owner, *begin])
        results = run(job, threads=os.cpu_count())
        begin = ["--from", folder]
        requests.append(
            {
                "owners": [owner],
                "models": results["models"],
                "attribution": results["attribution_by_owner"],
                "seconds": results["seconds"],
            }
        )
        write_json(out / "sequence.json", requests)
        method = config.methods.split(",")[-1]
        bar.set_postfix(tow=f"{results['models'][method]['tow']:.3f}")
    bar.close()

    text = "\n".join(line for m in config.methods.split(",") for line in method_table(requests, m))
    write_text(out / "sequence.md", text + "\n")
    print(text)
    try:
        from .plot import plot_sequence
    except ImportError:
        print("No figure: it needs matplotlib (pip install -e '.[plot]').")
    else:
        methods = config.methods.split(",")
        write(out / "sequence.png", lambda tmp: plot_sequence(requests, methods, tmp))


def method_table(requests, method):
    """Scores of a method after each request, on everyone forgotten so far."""
    rows = []
    for i, r in enumerate(requests, 1):
        scores, retrained = r["models"][method], r["models"]["retrained"]
        keys = ("tow", "forget", "retain", "test", "fact_recall", "name_kept")
        cells = ["-" if scores[key] is None else f"{scores[key]:.3f}" for key in keys]
        recall = retrained["fact_recall"]
        cells.append("-" if recall is None else f"{recall:.3f}")
        cells.append(f"{r['seconds'][method]:.0f}")
        rows.append([str(i), r["owners"][0], f"{r['models']['original']['tow']:.3f}", *cells])
    heads = ["request", "owner", "ToW, original", "ToW", "forget", "retain", "test"]
    heads += ["fact recall", "name kept", "fact recall, retrained", "seconds"]
    return ["", f"{method}:", *table(heads, rows)]


if __name__ == "__main__":
    run_main(main, "minidareu.paper.sequence")
