"""Turn TOFU (Maini et al. 2024) into an owner dataset: 20 consecutive rows belong to one author.

    python data/tofu/prepare.py --download --out tofu.jsonl
    python data/tofu/prepare.py --source full.json --out tofu.jsonl

--source takes a file, or a folder with TOFU's files, where the perturbed ones (forget10_perturbed.json, ...) complete the rows
of full.json. A file is JSON lines, one JSON list, columns as a table is exported to JSON, CSV, or Parquet. Of a row `question`
and `answer` are needed; `paraphrased_question` becomes a test row, `paraphrased_answer` and `perturbed_answer` go with both.
"""

import json
from pathlib import Path

from minidareu.run.cli import make_parser, run_main
from minidareu.files import InputError, is_csv, read_list, read_rows, read_text, write_lines

ROWS_AN_AUTHOR = 20
KINDS = [".json", ".jsonl", ".csv", ".parquet"]


def read_table(path):
    """Rows of one of TOFU's files, in any of the forms above: [(place, dict)]. Raises InputError."""
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet

            return list(enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1))
        except ImportError:
            raise InputError(
                f"{path}: reading Parquet needs pyarrow; pip install -e '.[tofu]', or give JSON"
            ) from None
        except Exception as e:  # pyarrow raises a dozen kinds
            raise InputError(
                f"{path}: not a Parquet file ({str(e).splitlines()[0]}); download it again"
            ) from None
    if is_csv(path):
        return read_rows(path, ("question", "answer"))
    text = read_text(path)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        return read_rows(path, ("question", "answer"))
    if isinstance(table, dict) and isinstance(
        table.get("question"), (dict, list)
    ):  # columns, each a list or a dict by row number
        columns = {
            name: list(column.values()) if isinstance(column, dict) else column
            for name, column in table.items()
        }
        if not all(
            isinstance(column, list) and len(column) == len(columns["question"])
            for column in columns.values()
        ):
            raise InputError(
                f"{path}: its columns are of different lengths; export the table again"
            )
        table = [dict(zip(columns, cells)) for cells in zip(*columns.values())]
    return list(enumerate(table if isinstance(table, list) else [table], 1))


def strings(value, where):
    """The texts of a cell, which is a text, a list of them, or a list as JSON or Python writes it: [] for none. Raises
    InputError."""
    if isinstance(value, str) and value.startswith("["):
        value = read_list(value, f"{where}: a cell")
    return [text for text in (value if isinstance(value, list) else [value]) if text is not None]


def parse(row, where):
    """One of TOFU's rows -> texts by the names of TOFU, `perturbed_answer` a list. Raises InputError."""
    names = ["question", "answer", "paraphrased_question", "paraphrased_answer"]
    if not isinstance(row, dict) or not all(
        isinstance(row.get(name), str) and row[name].strip() for name in names[:2]
    ):
        raise InputError(
            f"{where}: not a row of TOFU; give question and answer, as non-empty strings"
        )
    texts = {name: row[name] for name in names if row.get(name) is not None} | {
        "perturbed_answer": strings(row.get("perturbed_answer"), where)
    }
    for name, value in texts.items():
        if not all(
            isinstance(text, str) and text.strip()
            for text in (value if name == "perturbed_answer" else [value])
        ):
            raise InputError(
                f"{where}: {name!r} is empty or not a string; give text, or leave it out"
            )
    return texts


def read_source(source):
    """Rows of a file, or of a folder of TOFU's files -> [(place of the row, texts)]. Raises InputError."""
    if not source.is_dir():
        return [
            (f"{source}:{place}", parse(row, f"{source}:{place}"))
            for place, row in read_table(source)
        ]
    files = {file.stem: file for file in sorted(source.iterdir()) if file.suffix in KINDS}
    full = files.get("full_perturbed") or files.get("full")
    if not full:
        raise InputError(f"{source}: holds no full.json; give TOFU's folder, or one of its files")
    rows, more = read_source(full), {}
    for name, file in files.items():
        if name.endswith("_perturbed") and name.startswith(("forget", "retain")):
            more |= {texts["question"]: texts for _, texts in read_source(file)}
    return [
        (
            where,
            {
                **more.get(texts["question"], {}),
                **texts,
                "perturbed_answer": texts["perturbed_answer"]
                or more.get(texts["question"], texts)["perturbed_answer"],
            },
        )
        for where, texts in rows
    ]


def convert(rows, source, authors=None):
    """TOFU's rows -> rows of an owner dataset, of the first `authors` authors (None: all). Raises InputError."""
    if len(rows) % ROWS_AN_AUTHOR:
        raise InputError(
            f"{rows[-1][0]}: is row {len(rows)}, and the last; an author has {ROWS_AN_AUTHOR} of them: download the file again"
        )
    if not rows or authors is not None and len(rows) < authors * ROWS_AN_AUTHOR:
        raise InputError(
            f"{rows[-1][0] if rows else source}: ends after {len(rows) // ROWS_AN_AUTHOR} authors; give a smaller --authors"
        )
    for i, (_, texts) in enumerate(rows[: None if authors is None else authors * ROWS_AN_AUTHOR]):
        record = {
            "owner": f"author {i // ROWS_AN_AUTHOR:03}",
            "prompt": texts["question"],
            "response": texts["answer"],
            "split": "train",
        }
        if "paraphrased_answer" in texts:
            record["paraphrase"] = texts["paraphrased_answer"]
        if texts["perturbed_answer"]:
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
    try:
        return Path(
            snapshot_download(
                "locuslab/TOFU",
                repo_type="dataset",
                allow_patterns=["full.json", "*_perturbed.json"],
                etag_timeout=5,
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
    sources.add_argument(
        "--download", action="store_true", help="fetch the published set, by huggingface_hub"
    )
    parser.add_argument("--out", type=Path, required=True, help="the dataset to write")
    parser.add_argument("--authors", type=int, help="take the first so many authors (default: all)")
    args = parser.parse_args()
    if args.authors is not None and args.authors < 1:
        raise InputError(f"--authors: {args.authors} is out of range; give at least 1")
    source = download() if args.download else args.source
    rows = list(convert(read_source(source), source, args.authors))
    write_lines(args.out, rows)
    print(f"{len(rows)} rows of {len({row['owner'] for row in rows})} authors in {args.out}")


if __name__ == "__main__":
    run_main(main, "prepare.py")
