import errno
import signal
import sys
from importlib import import_module
from io import StringIO

import pytest

from minidareu.run.cli import run_main, split_flags
from minidareu.files import InputError

COMMANDS = "sample report explain paper beyond.audit beyond.terms".split()
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


@pytest.mark.parametrize(
    "name, argv, says",
    [
        ("beyond.terms", ["--rows", "x"], "--rows: none begins so; choose from DareU"),
        ("beyond.terms", ["--workers", "0"], "'0' is not a whole number of at least 1"),
        ("beyond.terms", ["--seeds", "1", "x"], "'x' is not a whole number from 0"),
        ("beyond.terms", ["--flags", "--forget 'Ann"], "--flags: No closing quotation"),
        ("paper", ["fig5", "--workers", "0"], "'0' is not a whole number of at least 1"),
        ("paper", ["fig5", "--seeds", "\u0663"], "is not a whole number from 0"),
        (
            "paper",
            ["search", "scrn", "nope"],
            "search: no method is called 'nope'; choose from dareu",
        ),
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


def test_flags_are_split_as_a_shell_splits_them():
    assert split_flags("--forget 'Ann Lee' --seed 3") == ["--forget", "Ann Lee", "--seed", "3"]


def test_a_command_runs_in_a_notebook(monkeypatch):
    streams = [StringIO(), StringIO()]  # as a notebook's, they have no `reconfigure`
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    before = signal.getsignal(signal.SIGTERM)
    run_main(lambda: print("fine"), "it")
    assert streams[0].getvalue() == "fine\n"
    assert signal.getsignal(signal.SIGTERM) == before, "the notebook goes on"
