"""The page of a run: report.html, one file that needs no network.

python -m minidareu.report --run runs/authors-seed0       makes it again from the run's files
python -m minidareu.report --run runs/authors-seed0 --picture forgetting.svg --prompt 4
                                  answers along the updates, to the prompt with this number
python -m minidareu.report --compare runs/authors-seed0 runs/mine --picture compare.png
                                  two runs: tables, answers that differ, a picture of the curves
"""

from pathlib import Path

from ..files import InputError, write_text
from ..run.cli import make_parser, run_main
from ..run.folder import REPORT
from .compare import compare
from .page import draw_forgetting, page_data, write_report


def main(argv=None):
    parser = make_parser(__doc__, prog="python -m minidareu.report")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="folder of a finished run")
    which.add_argument("--compare", type=Path, nargs=2, help="folders of two finished runs")
    parser.add_argument("--picture", type=Path, help="an SVG of answers; of --compare, a PNG")
    parser.add_argument("--prompt", type=int, default=0, help="its number among those followed")
    parser.add_argument("--method", default="dareu", help="whose answers, comma-separated")
    args = parser.parse_args(argv)
    if args.compare:
        compare(args.compare, args.picture or args.compare[1] / "compare.png")
        return
    if args.picture:
        data, methods = page_data(args.run), args.method.split(",")
        for method in methods:
            if method not in data["answers"]:
                raise InputError(
                    f"--method {method}: this run kept no answers of it along the way; choose "
                    f"from {', '.join(data['answers']) or 'the methods of another run'}"
                )
        if not 0 <= args.prompt < len(data["along"]):
            raise InputError(f"--prompt: give a number from 0 to {len(data['along']) - 1}")
        write_text(args.picture, draw_forgetting(data, methods, args.prompt))
        print(args.picture)
        return
    write_report(args.run)
    print(args.run / REPORT)


if __name__ == "__main__":
    run_main(main, "minidareu.report")
