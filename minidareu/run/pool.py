"""Many runs of `train.py`, side by side."""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..files import InputError, write_text
from .source import source_files

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data/authors/authors.jsonl"


@dataclass
class Job:
    """One run of `train.py`."""

    folder: Path
    flags: list
    reuse: Path | None = None  # a run of the same seed, for the models that it has trained


def source_of_all_code():
    """A digest of all source that a run goes through: an edit makes every run anew.

    The stages of a run that the edit does not touch are kept by the run itself.
    """
    files = sorted(set(source_files("train", ROOT / "train.py").values()))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def run(job: Job, threads: int) -> dict:
    """Results of a run, made unless they are there. Raises InputError where it fails."""
    command = [sys.executable, str(ROOT / "train.py"), "--out", str(job.folder)]
    command += [str(flag) for flag in job.flags]
    if job.reuse:
        command += ["--reuse", str(job.reuse)]
    made_by = json.dumps([command[2:], source_of_all_code()])
    mark = job.folder / "command.json"  # how its results were made
    if not (mark.exists() and mark.read_text(encoding="utf-8") == made_by):
        job.folder.mkdir(parents=True, exist_ok=True)
        printed = job.folder.with_name(job.folder.name + ".txt")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with open(printed, "w", encoding="utf-8") as output:
            process = subprocess.run(command, env=environment, stdout=output, stderr=output)
        if process.returncode:
            raise InputError(
                f"a run failed: see {printed}; the same command goes on once it is mended"
            )
        write_text(mark, made_by)
    return json.loads((job.folder / "results.json").read_text(encoding="utf-8"))


def run_all(jobs: dict, workers: int) -> dict:
    """{name: Job} -> {name: results}, `workers` at a time, each with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    bar, results = tqdm(total=len(jobs), desc="runs", disable=None), {}
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run, job, threads): name for name, job in jobs.items()}
        for future in as_completed(futures):
            try:
                results[futures[future]] = future.result()
            except InputError:
                pool.shutdown(cancel_futures=True)
                raise
            models = results[futures[future]]["models"]
            tow = max(s["tow"] for name, s in models.items() if name != "retrained")
            bar.set_postfix(best_tow=f"{tow:.3f}")
            bar.update()
    bar.close()
    return results


def folder_of(out: Path, label: str, seed: int) -> Path:
    """Where a run is."""
    return out / f"{re.sub(r'[^A-Za-z0-9.+-]+', '-', label)}-seed{seed}"


def run_variants(variants: dict, seeds, out: Path, workers: int, *, flags=(), bases=None) -> dict:
    """{label: flags} x seeds -> {(label, seed): results}.

    bases: {label: label of the variant whose models it takes over}; None: the first variant's.
    Those that others take over are run first. A --data among the flags goes before the authors.
    """
    bases = bases or dict.fromkeys(variants, next(iter(variants)))

    def jobs(labels):
        made = {}
        for label in labels:
            for seed in seeds:
                command = ["--data", DATA, "--seed", seed, *flags, *variants[label]]
                reuse = folder_of(out, bases[label], seed)
                made[label, seed] = Job(folder_of(out, label, seed), command, reuse)
        return made

    first = [label for label in variants if label in bases.values()]
    rest = [label for label in variants if label not in first]
    return run_all(jobs(first), workers) | run_all(jobs(rest), workers)
