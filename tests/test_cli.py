import errno
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from minidareu.run.cli import run_main, split_flags
from minidareu.files import InputError

COMMANDS = "sample report explain paper beyond.audit beyond.exact beyond.terms".split()
NEED_A_RUN = ("sample", "report", "explain", "beyond.audit")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_that_is_not_there_is_one_line(name):
    module = import_module(
        f"minidareu.{name}.__main__"
        if name in ("paper", "explain", "report")
        else f"minidareu.{name}"
    )
    run = ["--run", "nowhere"] if name in NEED_A_RUN else []
    with pytest.raises(InputError, match="--no-such-flag") as e:
        module.main([*run, "--no-such-flag", "1"])
    assert "\n" not in str(e.value) and "--help" in str(e.value)


@pytest.mark.parametrize(
    "error, status, says",
    [
        (
            InputError("mine.jsonl:3: owner is empty"),
            2,
            "it: error: mine.jsonl:3: owner is empty\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/mine"),
            2,
            "it: error: [Errno 13] Permission denied: 'runs/mine'\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_how_a_command_ends(error, status, says, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as e:
        run_main(main, "it")
    printed = capsys.readouterr()
    assert (
        e.value.code == status
        and says in printed.err
        and printed.err.strip().count("\n") == 0
        and printed.out == ""
    )


def test_a_name_that_is_not_utf_8_is_one_line_before_anything_is_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["it", "--out", "runs/\udce9"])
    with pytest.raises(SystemExit) as e:
        run_main(lambda: pytest.fail("it ran"), "it")
    assert e.value.code == 2
    assert "'runs/\\udce9': is not UTF-8" in capsys.readouterr().err


def test_a_mistake_of_ours_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0, "it")


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    command = [
        sys.executable,
        "-m",
        "minidareu.paper",
        "fig5",
        "--out",
        str(tmp_path / "file/runs"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "file/runs" in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize(
    "name, argv, says",
    [
        ("beyond.terms", ["--rows", "x"], "--rows: none begins so; choose from DareU"),
        ("beyond.terms", ["--workers", "0"], "'0' is not a whole number of at least 1"),
        ("beyond.terms", ["--workers", "-1"], "'-1' is not a whole number of at least 1"),
        ("beyond.terms", ["--seeds", "1", "x"], "'x' is not a whole number from 0"),
        ("beyond.terms", ["--flags", "--forget 'Ann"], "--flags: No closing quotation"),
        ("beyond.audit", ["--run", "r", "--workers", "-1"], "'-1' is not a whole number"),
        ("beyond.exact", ["--workers", "0"], "'0' is not a whole number of at least 1"),
        ("beyond.exact", ["--seed", "99999999999999"], "--seed: 99999999999999 is out of range"),
        ("paper", ["fig5", "--workers", "0"], "'0' is not a whole number of at least 1"),
        ("paper", ["fig5", "--seeds", "\u0663"], "is not a whole number from 0"),
        (
            "paper",
            ["search", "scrn", "nope"],
            "search: no method is called 'nope'; choose from dareu",
        ),
        ("paper", ["search", "original"], "search: no method is called 'original'"),
        (
            "sample",
            ["--run", "r", "--seed", "99999999999999999999", "x"],
            "is not a whole number from",
        ),
        ("sample", ["--run", "r", "--temperature", "1e-39", "x"], "give 0, or at least 0.01"),
        ("sample", ["--run", "r", "--temperature", "nan", "x"], "give 0, or at least 0.01"),
    ],
)
def test_values_that_make_no_sense_are_one_line_before_anything_is_run(
    name, argv, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    module = f"minidareu.{name}" + (".__main__" if name == "paper" else "")
    with pytest.raises(InputError) as e:
        import_module(module).main(argv)
    assert says in str(e.value) and "\n" not in str(e.value)
    assert not list(tmp_path.rglob("*.txt")), "no run was made"


def test_figure_5_takes_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import_module("minidareu.paper.__main__").main(["fig5", "--seeds", "41", "--workers", "1"])
    assert "Figure 5" in capsys.readouterr().out


def test_flags_are_split_as_a_shell_splits_them():
    assert split_flags("--forget 'Ann Lee' --seed 3") == ["--forget", "Ann Lee", "--seed", "3"]


class NotebookStream:
    """What a notebook puts in the place of stdout: it has no `reconfigure`."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_command_runs_in_a_notebook(monkeypatch):
    streams = [NotebookStream(), NotebookStream()]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    before = signal.getsignal(signal.SIGTERM)
    run_main(lambda: print("fine"), "it")
    assert streams[0].text == "fine\n"
    assert signal.getsignal(signal.SIGTERM) == before, "the notebook goes on"


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_a_command_runs_where_a_stream_is_closed(closed):
    code = (
        "import sys, tqdm\n"
        f"closed = {closed!r}\n"
        "if closed != 'stderr': sys.stdout = None\n"
        "if closed != 'stdout': sys.stderr = None\n"
        "from minidareu.run.cli import run_main\n"
        "def main():\n"
        "    for i in tqdm.tqdm(range(3), disable=None): print(i, flush=True)\n"
        "    print(i, file=sys.stderr)\n"
        "run_main(main, 'it')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr
