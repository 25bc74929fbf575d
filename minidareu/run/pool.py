"""Many runs of `train.py`, and other long work, in processes side by side."""

import hashlib
import json
import os
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import torch
from tqdm import tqdm

from ..files import InputError, write_json
from .folder import RESULTS

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data/authors/authors.jsonl"


@dataclass
class Job:
    """One run of `train.py`."""

    folder: Path
    flags: list
    reuse: Path | None = None  # a run of the same seed, for the models that it has trained


def source_of_all_code() -> str:
    """A digest of all source: an edit makes every run anew. The stages of a run that the edit does
    not touch are kept by the run itself."""
    files = [ROOT / "train.py", *sorted((ROOT / "minidareu").rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def run(job: Job) -> dict:
    """Results of a run, made unless they are there. Raises InputError where it fails."""
    argv = ["train.py", "--out", str(job.folder), *map(str, job.flags)]
    if job.reuse:
        argv += ["--reuse", str(job.reuse)]
    path = Path(dict(zip(argv, argv[1:], strict=False)).get("--data", DATA))  # the last one counts
    try:
        data = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror}); put the data back") from None
    return kept_json(job.folder / "kept.json", f"{argv} {data}", partial(make, job, argv))


def make(job: Job, argv: list[str]) -> dict:
    job.folder.mkdir(parents=True, exist_ok=True)
    printed = job.folder.with_name(job.folder.name + ".txt")
    if run_script(argv, printed) != 0:
        raise InputError(f"a run failed: see {printed}; the same command goes on once it is mended")
    return json.loads((job.folder / RESULTS).read_text(encoding="utf-8"))


def run_script(argv: list[str], printed: Path) -> int | str | None:
    """Run a script of the project as a program, in this process: its exit status. What it prints
    goes into a file."""
    with (
        open(printed, "w", encoding="utf-8") as output,
        redirect_stdout(output),
        redirect_stderr(output),
        patch.object(sys, "argv", argv),
    ):
        try:
            runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
        except SystemExit as e:
            return e.code
        except Exception:
            traceback.print_exc()
            return 1
    return 0


def run_all(jobs: dict, workers: int) -> dict:
    """{name: Job} -> {name: results}, `workers` at a time."""
    return side_by_side({name: (run, job) for name, job in jobs.items()}, workers, "runs")


def side_by_side(jobs: dict, workers: int, title: str) -> dict:
    """{name: (function, *arguments)} -> {name: function(*arguments)}, each in a process of its own;
    one worker is this process itself.

    Raises InputError where one of them does, once those at work have ended, or where one is killed.
    Ctrl-C, or the end of this process, ends them all. title: of the progress bar.
    """
    if workers == 1:
        calls = tqdm(jobs.items(), desc=title, disable=None)
        return {name: function(*arguments) for name, (function, *arguments) in calls}
    found: dict = {}
    context, threads = get_context("spawn"), max(1, torch.get_num_threads() // workers)
    with (
        ProcessPoolExecutor(workers, context, begin_worker, initargs=(threads,)) as pool,
        tqdm(total=len(jobs), desc=title, disable=None) as bar,
    ):
        try:
            futures = {pool.submit(*job): name for name, job in jobs.items()}
            at_work = set(futures)
            while at_work:
                # Python can miss a Ctrl-C that comes just as a wait begins, until it is over.
                ended, at_work = wait(at_work, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ended:
                    found[futures[future]] = future.result()
                    bar.set_postfix(last=str(futures[future]))
                    bar.update()
        except BrokenProcessPool:
            raise InputError(
                "a process was killed, most likely as memory ran out; give a smaller --workers"
            ) from None
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            for process in active_children():
                process.kill()  # files are written whole or not at all
            pool.shutdown(cancel_futures=True)
            raise
    return found


def begin_worker(threads: int) -> None:
    """A worker says nothing, and has threads of its own. Ctrl-C is its parent's, with which it
    ends."""
    sys.stdout = sys.stderr = open(os.devnull, "w")
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent = parent_process()
    assert parent, "a worker has one"
    parent.join()
    os._exit(1)


def kept_json(path: Path, facts: str, make: Callable[[], dict]) -> dict:
    """What `make` returns, a JSON value; from `path` while facts and source stay the same."""
    key = hashlib.sha256((facts + source_of_all_code()).encode()).hexdigest()
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return kept["found"]
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"key": key, "found": found})
    return found


def folder_of(out: Path, label: str, seed: int) -> Path:
    """Where a run is."""
    return out / f"{re.sub(r'[^A-Za-z0-9.+-]+', '-', label)}-seed{seed}"


def run_variants(variants: dict, seeds, out: Path, workers: int, *, flags=(), bases=None) -> dict:
    """{label: flags} x seeds -> {(label, seed): results}.

    bases: {label: label of the variant whose models it takes over}; None: the first variant's.
    Those that others take over are run first.
    """
    bases = bases or dict.fromkeys(variants, next(iter(variants), None))
    first = [label for label in variants if label in bases.values()]
    rest = [label for label in variants if label not in first]
    results: dict = {}
    for labels in (first, rest):
        jobs = {}
        for label in labels:
            for seed in seeds:
                command = ["--data", DATA, "--seed", seed, *flags, *variants[label]]
                base = None if label == bases[label] else folder_of(out, bases[label], seed)
                jobs[label, seed] = Job(folder_of(out, label, seed), command, reuse=base)
        results |= run_all(jobs, workers)
    return results
