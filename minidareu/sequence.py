"""Requests that come one after another: forget an owner, then another from the model that was left, and so on.

    python -m minidareu.sequence                     ten owners of the default data, drawn by seed
    python -m minidareu.sequence --requests 3 --data mine.jsonl --seed 1

Each request is a run of `train.py --from` the one before, in a folder of its own; flags of train.py go to all of them. Leaves
sequence.json, sequence.md and sequence.png; goes on where it was cut.
"""

import os
import random
from pathlib import Path

from tqdm import tqdm

from .benchmark import run, table
from .cli import make_parser, run_main
from .config import parse
from .data import InputError, load_records, write, write_json


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.sequence")
    parser.add_argument("--requests", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/<dataset>-sequence-seed<seed>)")
    args, flags = parser.parse_known_args(argv)
    config = parse(flags, "")
    if config.forget or config.n_forget or config.forget_fraction or config.from_run:
        raise InputError("--forget, --n-forget, --forget-fraction, --from: not for a sequence, which draws its owners; leave them out")
    owners = list(dict.fromkeys(r.owner for r in load_records(config.data)))
    if not 1 <= args.requests < len(owners):
        raise InputError(f"--requests: {args.requests} is out of range; {config.data} has {len(owners)} owners, and one at least is retained")
    out = args.out or Path(f"runs/{Path(config.data).stem}-sequence-seed{config.seed}")
    out.mkdir(parents=True, exist_ok=True)

    requests, begin = [], []
    bar = tqdm(random.Random(config.seed).sample(owners, args.requests), desc="requests", disable=None)
    for i, owner in enumerate(bar, 1):
        folder = out / f"{i:02}"
        results = run(folder, [*flags, "--forget", owner, *begin], os.cpu_count())
        begin = ["--from", folder]
        attribution = results["attribution_by_owner"]
        requests.append({"owners": [owner], "models": results["models"], "attribution": attribution["dareu"],
                         "retrained_attribution": attribution["retrained"], "seconds": results["seconds"]})
        write_json(out / "sequence.json", requests)
        bar.set_postfix(tow=f"{results['models']['dareu']['tow']:.3f}")
    bar.close()

    rows = []
    for i, r in enumerate(requests, 1):
        dareu, worst = r["models"]["dareu"], max(r["attribution"], key=r["attribution"].get)
        scores = [r["models"]["target"]["tow"], *(dareu[key] for key in ("tow", "forget", "retain", "test"))]
        rows.append([str(i), r["owners"][0], *(f"{score:.3f}" for score in scores), f"{r['attribution'][worst]:.3f} ({worst})",
                     f"{max(r['retrained_attribution'].values()):.3f}", f"{r['seconds']['dareu']:.0f}"])
    heads = ["request", "owner", "ToW, target", "ToW", "forget", "retain", "test", "largest attribution", "retrained's", "seconds"]
    text = "\n".join(table(heads, rows)) + "\n"
    write(out / "sequence.md", lambda tmp: tmp.write_text(text, encoding="utf-8"))
    print(text)
    try:
        from .plot import plot_sequence
        write(out / "sequence.png", lambda tmp: plot_sequence(requests, tmp))
    except ImportError:
        print("No figure: it needs matplotlib (pip install -e '.[plot]').")


if __name__ == "__main__":
    run_main(main, "minidareu.sequence")
