"""How fast is it? Ratios of two things that are timed in turn in one process, medians over repeats.

    python -m minidareu.bench                        training and generation beside transformers
    python -m minidareu.bench growth                 cost as the data grow

Needs the `bench` extra. Leaves a Markdown and a JSON file for each in --out. Close other programs
first.
"""

import os
from pathlib import Path

import torch

from ..files import InputError, write_json, write_text
from ..report.markdown import table
from ..run.cli import make_parser, positive, run_main
from ..run.prepare import pick_device


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.bench")
    parser.add_argument("part", nargs="?", default="peers", choices=["peers", "growth"])
    parser.add_argument("--repeats", type=positive, default=7, help="of each pair; growth: seeds")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the files")
    args = parser.parse_args(argv)
    device = pick_device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        from .growth import growth
        from .speed import beside_peers
    except ImportError as e:
        raise InputError(f'{e}; install the peers: pip install -e ".[bench]"') from None
    peers = args.part == "peers"
    made = beside_peers(device, args.repeats) if peers else growth(args.out, args.repeats)
    head, rows, figures = made
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores"
    where += f", torch {torch.__version__}."
    text = "\n".join([where, *table(head, rows)]) + "\n"
    write_json(args.out / f"{args.part}.json", {"machine": where, "figures": figures})
    write_text(args.out / f"{args.part}.md", text)
    print(text)


if __name__ == "__main__":
    run_main(main, "minidareu.bench")
