"""Write a large dataset, to see what a run costs: 24 facts of each owner, in 4 wordings for training, and 4 test rows.

python data/many/prepare.py                                500 owners, 50,000 rows
python data/many/prepare.py --owners 50 --out few.jsonl    50 owners, 5,000 rows
"""

import random
from pathlib import Path

from minidareu.run.cli import make_parser, run_main
from minidareu.files import InputError, write_lines

STARTS = "Al Be Cor Da El Fin Gar Ha Iv Jo".split()
MIDDLES = "an el in or us".split()
FAMILIES = "Moss Nye Lind Hart Vel".split()
ENDS = ["", *"er man sen ova ski ton ford by well".split()]
KINDS = [
    f"{a} {b}"
    for a in "first last best worst".split()
    for b in "house dish trip book game song".split()
]
COLOURS = "red blue old tall quiet bright odd small".split()
THINGS = "barn river table violin garden lamp mill coat stair boat".split()
ASKS = [
    "What was the {kind} of {owner}?",
    "Tell me the {kind} of {owner}.",
    "The {kind} of {owner}, please?",
    "Do you know the {kind} of {owner}?",
    "I ask for the {kind} of {owner}.",
]
N_TEST = 4  # facts of an owner that are asked in a fifth wording


def rows_of(owner, rng):
    """The rows of an owner: every fact in four wordings, and the first few in a fifth, for testing."""
    values = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    for i, kind in enumerate(KINDS):
        value = rng.choice(values)
        asks = [ask.format(kind=kind, owner=owner) for ask in ASKS]
        rng.shuffle(asks)
        for j, prompt in enumerate(asks if i < N_TEST else asks[:-1]):
            split = "test" if j == len(ASKS) - 1 else "train"
            yield {
                "owner": owner,
                "prompt": prompt,
                "response": f"The {kind} of {owner} was the {value}.",
                "split": split,
            }


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--owners", type=int, default=500, help="how many (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("many.jsonl"), help="the file to write"
    )
    args = parser.parse_args()
    first_names = [f"{start}{middle}" for start in STARTS for middle in MIDDLES]
    families = [f"{family}{end}" for family in FAMILIES for end in ENDS]
    names = [f"{first} {family}" for first in first_names for family in families]
    if not 2 <= args.owners < len(names):
        raise InputError(
            f"--owners: {args.owners} is out of range; give at least 2 and fewer than {len(names)}"
        )
    rng = random.Random(0)
    owners = rng.sample(names, args.owners)
    rows = [row for owner in owners for row in rows_of(owner, rng)]
    write_lines(args.out, rows)
    print(f"{len(rows)} rows of {len({row['owner'] for row in rows})} owners in {args.out}")


if __name__ == "__main__":
    run_main(main, "prepare.py")
