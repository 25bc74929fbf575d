"""Many runs side by side: which are made again, and how they end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conftest import FAST
from minidareu.files import InputError
from minidareu.run import pool

ROOT = Path(__file__).parent.parent
TINY = "--epochs 1 --classifier-epochs 1 --ppo-steps 1 --data-epochs 1".split()


@pytest.fixture
def job(toy, tmp_path):
    data = tmp_path / "mine.jsonl"
    shutil.copy(toy, data)
    flags = ["--data", data, *FAST, *TINY, "--methods", "dareu", "--no-curve"]
    return pool.Job(tmp_path / "run", flags)


def test_a_run_is_made_again_where_its_data_or_its_results_are_other(job):
    first = pool.run(job)
    results = job.folder / "results.json"
    before = results.stat().st_mtime_ns
    assert pool.run(job) == first and results.stat().st_mtime_ns == before
    shutil.rmtree(job.folder)
    assert pool.run(job)["models"] == first["models"], "removed, so made again"
    data = Path(job.flags[1])
    rows = data.read_text().splitlines()
    data.write_text("\n".join(rows[::-1]) + "\n")
    with pytest.raises(InputError, match="a run failed: see"):
        pool.run(job)  # train.py itself refuses to mix two datasets in a folder
    data.unlink()
    with pytest.raises(InputError, match="mine.jsonl: can't be read"):
        pool.run(job)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@contextmanager
def started(argv, folder):
    """A process that takes Ctrl-C, also where the tests run in the background. What it has left
    behind ends with the test."""
    process = subprocess.Popen(
        [sys.executable, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


RUNS = """
from pathlib import Path
from minidareu.run import pool
from minidareu.run.cli import run_main

def main():
    jobs = {i: pool.Job(Path(f"run{i}"), ["--data", "mine.jsonl", "--epochs", "5000"]) for i in range(4)}
    pool.run_all(jobs, 2)

if __name__ == "__main__":
    run_main(main, "runs")
"""


def test_ctrl_c_ends_the_runs_at_work_and_no_other_begins(toy, tmp_path):
    shutil.copy(toy, tmp_path / "mine.jsonl")
    (tmp_path / "runs.py").write_text(RUNS)
    with started(["runs.py"], tmp_path) as process:
        wait_for(lambda: (tmp_path / "run1.txt").exists())
        process.send_signal(signal.SIGINT)  # to the parent alone, as `kill -INT` does
        _, told = process.communicate(timeout=30)
        if Path("/proc").exists():
            lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
            assert not any(str(tmp_path).encode() in line for line in lines)
    assert process.returncode == 130 and b"interrupted" in told
    assert not (tmp_path / "run2").exists() and not (tmp_path / "run3").exists()


WORKERS = """
import sys, time
from pathlib import Path
from minidareu.run.cli import run_main
from minidareu.run.pool import side_by_side

def work(i):
    Path(f"begun{i}").touch()
    time.sleep(60)

def main():
    side_by_side({i: (work, i) for i in range(4)}, 2, "work")

if __name__ == "__main__":
    run_main(main, "workers")
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "workers.py").write_text(WORKERS)
    with started(["workers.py"], tmp_path) as process:
        wait_for(lambda: (tmp_path / "begun1").exists())
        process.kill()
        process.wait()
        wait_for(lambda: not at_work_in(tmp_path), seconds=20)


def at_work_in(folder):
    """Processes whose working directory is this folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if place.resolve() == folder and "zombie" not in (place.parent / "status").read_text():
                found.append(place)
    return found


def work(i):
    if i == 0:
        raise InputError("no")
    if i < 0:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out
    return i


def test_what_is_done_side_by_side_and_an_error_in_one():
    assert pool.side_by_side({"a": (work, 1), "b": (work, 2)}, 2, "work") == {"a": 1, "b": 2}
    with pytest.raises(InputError, match="no"):
        pool.side_by_side({"a": (work, 0), "b": (work, 2)}, 2, "work")
    with pytest.raises(InputError, match="was killed, most likely as memory ran out"):
        pool.side_by_side({"a": (work, -1)}, 2, "work")
    assert json.dumps(pool.run_all({}, 1)) == "{}"
