"""The page of a run: report.html, one file that needs no network.

python -m minidareu.report --run runs/authors-seed0       makes it again from the run's files
python -m minidareu.report --run runs/authors-seed0 --picture answers.svg --prompts 0 24 48
                                  answers to the forget prompts with these numbers
python -m minidareu.report --compare runs/authors-seed0 runs/mine --picture compare.png
                                  two runs: tables, answers that differ, a picture of the curves
"""

from pathlib import Path

from ..files import InputError, write_text
from ..run.cli import make_parser, run_main
from ..run.folder import REPORT, read_run
from .compare import compare
from .page import draw_answers, write_report


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.report")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="folder of a finished run")
    which.add_argument("--compare", type=Path, nargs=2, help="folders of two finished runs")
    parser.add_argument("--picture", type=Path, help="an SVG of answers; of --compare, a PNG")
    parser.add_argument(
        "--prompts", type=int, nargs="+", default=[0], help="of the picture: their rows, from 0"
    )
    parser.add_argument("--models", help="of the picture, comma-separated; default: all")
    args = parser.parse_args(argv)
    if args.compare:
        compare(args.compare, args.picture or args.compare[1] / "compare.png")
        return
    if args.picture:
        results, _, samples = read_run(args.run)
        models = args.models.split(",") if args.models else list(results["models"])
        for model in models:
            if model not in results["models"]:
                known = ", ".join(results["models"])
                raise InputError(f"--models {model}: not in this run; choose from {known}")
        if not all(0 <= i < len(samples) for i in args.prompts):
            raise InputError(f"--prompts: give numbers from 0 to {len(samples) - 1}")
        rows = [samples[i] for i in args.prompts]
        write_text(args.picture, draw_answers(rows, models))
        print(args.picture)
        return
    write_report(args.run)
    print(args.run / REPORT)


if __name__ == "__main__":
    run_main(main, "minidareu.report")
