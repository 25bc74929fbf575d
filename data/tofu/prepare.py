"""Turn TOFU (Maini et al. 2024) into an owner dataset: 20 consecutive rows belong to one author.

    python data/tofu/prepare.py --download --out tofu.jsonl
    python data/tofu/prepare.py --source full.json --out tofu.jsonl

--source takes a file as TOFU is published, JSON lines, or a folder of such files, where the perturbed ones
(forget10_perturbed.json, ...) complete the rows of full.json. Of a row `question` and `answer` are needed;
`paraphrased_question` becomes a test row, `paraphrased_answer` and `perturbed_answer` go with both.
"""

from pathlib import Path

from minidareu.files import InputError, check_texts, read_rows, write_lines
from minidareu.run.cli import make_parser, positive, run_main

ROWS_AN_AUTHOR = 20
KEYS = ["question", "answer", "paraphrased_question", "paraphrased_answer", "perturbed_answer"]


def read_file(path):
    """Rows of one of TOFU's files: [(place, {key: text, or list of texts})]. Raises InputError."""
    rows = []
    for line, row in read_rows(path, ("question", "answer")):
        texts = {key: row[key] for key in KEYS if row.get(key) is not None}
        check_texts(texts, f"{path}:{line}", lists=("perturbed_answer",))
        rows.append((f"{path}:{line}", texts))
    return rows


def read_source(source):
    """Rows of a file, or of a folder of TOFU's files, as `read_file` has them. Raises InputError."""
    if not source.is_dir():
        return read_file(source)
    files = {file.stem: file for file in sorted(source.glob("*.json"))}
    full = files.get("full_perturbed") or files.get("full")
    if not full:
        raise InputError(f"{source}: holds no full.json; give TOFU's folder, or one of its files")
    more = {}
    for name, file in files.items():
        if name.endswith("_perturbed") and name.startswith(("forget", "retain")):
            more |= {texts["question"]: texts for _, texts in read_file(file)}
    return [(place, more.get(texts["question"], {}) | texts) for place, texts in read_file(full)]


def convert(rows, source, authors=None):
    """TOFU's rows -> rows of an owner dataset, of the first `authors` authors (None: all). Raises InputError."""
    if len(rows) % ROWS_AN_AUTHOR:
        raise InputError(
            f"{rows[-1][0]}: is row {len(rows)}, and the last; an author has {ROWS_AN_AUTHOR} of them: download the file again"
        )
    n_authors = len(rows) // ROWS_AN_AUTHOR
    if authors and n_authors < authors:
        raise InputError(f"{source}: ends after {n_authors} authors; give a smaller --authors")
    for i, (_, texts) in enumerate(rows[: (authors or n_authors) * ROWS_AN_AUTHOR]):
        record = {"owner": f"author {i // ROWS_AN_AUTHOR:03}", "prompt": texts["question"]}
        record |= {"response": texts["answer"], "split": "train"}
        if "paraphrased_answer" in texts:
            record["paraphrase"] = texts["paraphrased_answer"]
        if texts.get("perturbed_answer"):
            record["perturbed"] = texts["perturbed_answer"]
        yield record
        if "paraphrased_question" in texts:
            yield {**record, "prompt": texts["paraphrased_question"], "split": "test"}


def download():
    """TOFU as published -> the folder that it was fetched to. Raises InputError."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(
            "--download: needs huggingface_hub; pip install -e '.[tofu]', or give --source"
        ) from None
    files = ["full.json", "*_perturbed.json"]
    try:
        return Path(
            snapshot_download(
                "locuslab/TOFU", repo_type="dataset", allow_patterns=files, etag_timeout=5
            )
        )
    except Exception as e:  # whatever the network layer raises
        raise InputError(
            f"--download: TOFU can't be fetched ({type(e).__name__}); go online once, or give --source with files at hand"
        ) from None


def main():
    parser = make_parser(__doc__)
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--source", type=Path, help="a file of TOFU, or the folder of its files")
    sources.add_argument("--download", action="store_true", help="fetch the published set")
    parser.add_argument("--out", type=Path, required=True, help="the dataset to write")
    parser.add_argument("--authors", type=positive, help="the first so many authors (default: all)")
    args = parser.parse_args()
    source = download() if args.download else args.source
    rows = list(convert(read_source(source), source, args.authors))
    write_lines(args.out, rows)
    print(f"{len(rows)} rows of {len({row['owner'] for row in rows})} authors in {args.out}")


if __name__ == "__main__":
    run_main(main, "prepare.py")
