"""Turn TOFU (Maini et al. 2024) into an owner dataset: 20 consecutive rows belong to one author.

    python data/tofu/prepare.py --source full_perturbed.json --out tofu.jsonl --authors 20

Reads JSON lines with `question` and `answer`. Where a row has a `paraphrased_question`, that becomes a test row.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROWS_AN_AUTHOR = 20


def convert(lines, authors, source):
    """TOFU's lines -> rows of the first `authors` authors (all if None). Raises ValueError with a one-line message."""
    for number, line in enumerate(lines, 1):
        author = (number - 1) // ROWS_AN_AUTHOR
        if authors is not None and author >= authors:
            return
        try:
            row = json.loads(line)
            question, answer = row["question"], row["answer"]
        except (json.JSONDecodeError, KeyError, TypeError) as e:
            raise ValueError(f"{source}:{number}: not a TOFU row ({e}); give JSON lines with question and answer") from None
        optional = {"paraphrase": row.get("paraphrased_answer"), "perturbed": row.get("perturbed_answer")}
        record = {"owner": f"author {author:03}", "prompt": question, "response": answer, "split": "train",
                  **{key: value for key, value in optional.items() if value}}
        yield record
        if row.get("paraphrased_question"):
            yield {**record, "prompt": row["paraphrased_question"], "split": "test"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="TOFU's full.json or full_perturbed.json")
    parser.add_argument("--out", required=True, help="the dataset to write")
    parser.add_argument("--authors", type=int, help="take the first so many authors (default: all)")
    args = parser.parse_args()
    try:
        if args.authors is not None and args.authors < 1:
            raise ValueError(f"--authors: {args.authors} is out of range; give at least 1")
        rows = list(convert(Path(args.source).read_text(encoding="utf-8").splitlines(), args.authors, args.source))
        if args.authors is not None and len({row["owner"] for row in rows}) < args.authors:
            raise ValueError(f"{args.source}: holds fewer than {args.authors} authors; give a smaller --authors")
        temporary = Path(args.out + ".tmp")
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        os.replace(temporary, args.out)
    except (ValueError, OSError) as e:
        print(f"prepare.py: error: {e}", file=sys.stderr)
        sys.exit(2)
    print(f"{len(rows)} rows of {len({row['owner'] for row in rows})} authors in {args.out}")


if __name__ == "__main__":
    main()
