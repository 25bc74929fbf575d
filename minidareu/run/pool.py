"""Many runs of `train.py`, side by side."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Event, RLock

import torch
from tqdm import tqdm

from ..files import InputError, write_json, write_text

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


def data_of(job: Job) -> str:
    """A digest of the data that a run reads. Raises InputError where they are gone."""
    pairs = zip(job.flags, job.flags[1:], strict=False)
    given = [value for flag, value in pairs if flag == "--data"]
    path = Path(given[-1] if given else DATA)  # the last one counts
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror}); put the data back") from None


def run(job: Job, threads: int = 1, stop: Event | None = None) -> dict:
    """Results of a run, made unless they are there; once `stop` is set, it is ended.

    Raises InputError where it fails.
    """
    command = [sys.executable, str(ROOT / "train.py"), "--out", str(job.folder)]
    command += [str(flag) for flag in job.flags]
    if job.reuse:
        command += ["--reuse", str(job.reuse)]
    made_by = json.dumps([command[2:], data_of(job), source_of_all_code()])
    mark, results = job.folder / "command.json", job.folder / "results.json"
    made = mark.exists() and results.exists() and mark.read_text(encoding="utf-8") == made_by
    if not made:
        job.folder.mkdir(parents=True, exist_ok=True)
        printed = job.folder.with_name(job.folder.name + ".txt")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with open(printed, "w", encoding="utf-8") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            while process.poll() is None:
                if stop and stop.is_set():
                    process.terminate()  # time to end what it has started, before the next one
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=5)
                time.sleep(0.1)
            status = process.returncode
        if status:
            raise InputError(
                f"a run failed: see {printed}; the same command goes on once it is mended"
            )
        write_text(mark, made_by)
    return json.loads(results.read_text(encoding="utf-8"))


def run_all(jobs: dict, workers: int) -> dict:
    """{name: Job} -> {name: results}, `workers` at a time, each with its share of the cores.

    Ctrl-C ends those at work, and no other begins.
    """
    bar, results = tqdm(total=len(jobs), desc="runs", disable=None), {}
    stop, threads = Event(), threads_each(workers)
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = {pool.submit(run, job, threads, stop): name for name, job in jobs.items()}
            for future in as_they_end(futures):
                results[futures[future]] = future.result()
                models = results[futures[future]]["models"]
                tow = max(s["tow"] or 0 for name, s in models.items() if name != "retrained")
                bar.set_postfix(best_tow=f"{tow:.3f}")
                bar.update()
        except InputError:
            pool.shutdown(cancel_futures=True)  # those at work come to their end
            raise
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    bar.close()
    return results


def as_they_end(futures) -> Iterator:
    """Each future once it has ended.

    Python can miss a Ctrl-C that comes just as a wait begins, until that wait is over: so each
    wait is short.
    """
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        yield from ended


def threads_each(workers: int) -> int:
    """Threads for each of so many processes: together no more than the CPUs that this one may use,
    and none more than it has itself (OMP_NUM_THREADS)."""
    return min(torch.get_num_threads(), max(1, allowed_cpus() // workers))


def allowed_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def begin_worker(threads: int) -> None:
    """A worker says nothing, and has threads of its own. Ctrl-C is its parent's, which ends it."""
    sys.stdout = sys.stderr = open(os.devnull, "w")
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(RLock())  # its own is shared by processes, and left behind by one that is ended


def side_by_side(jobs: dict, workers: int) -> Iterator[tuple]:
    """(name, function(*arguments)) of each {name: (function, *arguments)} as it ends, in processes
    of their own; one worker is this process itself.

    Ctrl-C ends those at work, and no other begins.
    """
    if workers == 1:
        yield from ((name, function(*rest)) for name, (function, *rest) in jobs.items())
        return
    context, threads = get_context("spawn"), (threads_each(workers),)
    with ProcessPoolExecutor(workers, context, begin_worker, initargs=threads) as pool:
        try:
            futures = {pool.submit(*job): name for name, job in jobs.items()}
            for future in as_they_end(futures):
                yield futures[future], future.result()
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            for process in active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


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
    Those that others take over are run first. A --data among the flags goes before the authors.
    """
    bases = bases or dict.fromkeys(variants, next(iter(variants), None))

    def jobs(labels):
        made = {}
        for label in labels:
            for seed in seeds:
                command = ["--data", DATA, "--seed", seed, *flags, *variants[label]]
                base = None if label == bases[label] else folder_of(out, bases[label], seed)
                made[label, seed] = Job(folder_of(out, label, seed), command, reuse=base)
        return made

    first = [label for label in variants if label in bases.values()]
    rest = [label for label in variants if label not in first]
    return run_all(jobs(first), workers) | run_all(jobs(rest), workers)
