"""How fast is it? Ratios of two things that are timed in turn in one process, medians over repeats.

    python -m minidareu.bench                        training, generation, update: beside peers
    python -m minidareu.bench growth                 cost as the data grow: 17 minutes

Needs the `bench` extra. Leaves a Markdown and a JSON file for each part in --out. Close other
programs first.
"""

import os
from pathlib import Path

import torch

from ..files import InputError, write_json, write_text
from ..report.markdown import table
from ..run.cli import make_parser, run_main
from ..run.prepare import pick_device
from .timing import matmul_peak

PARTS = ["training", "generation", "update", "growth"]


def machine(device):
    """One line on what the figures were measured on."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores"
    peak = matmul_peak(device) / 1e9
    return f"{where}, torch {torch.__version__}, matrix products at {peak:.0f} GFLOP/s."


def make_part(name, args, device):
    """Head, rows of text, and figures of a part."""
    if name == "growth":
        from .growth import growth

        return growth(args.out, args.repeats)
    try:
        from . import speed
    except ImportError as e:
        raise InputError(f'{e}; install the peers: pip install -e ".[bench]"') from None
    return getattr(speed, name)(device, args.repeats)


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.bench")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: the first three")
    parser.add_argument("--repeats", type=int, default=7, help="of each pair (growth: seeds)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the files")
    args = parser.parse_args(argv)
    for name in args.parts:
        if name not in PARTS:
            raise InputError(f"no part is called {name!r}; choose from {', '.join(PARTS)}")
    if args.repeats < 1:
        raise InputError(f"--repeats: {args.repeats} is out of range; give at least 1")
    device = pick_device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.parts or PARTS[:3]:
        where = machine(device)
        head, rows, figures = make_part(name, args, device)
        text = "\n".join([where, *table(head, rows)]) + "\n"
        write_json(args.out / f"{name}.json", {"machine": where, "figures": figures})
        write_text(args.out / f"{name}.md", text)
        print(text, flush=True)


if __name__ == "__main__":
    run_main(main, "minidareu.bench")
