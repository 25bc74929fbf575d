import errno
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from minidareu.run.cli import run_main
from minidareu.files import InputError

COMMANDS = (
    "sample report explain paper beyond.audit beyond.exact beyond.ladder beyond.tokens".split()
)
NEED_A_RUN = ("sample", "report", "explain", "beyond.audit", "beyond.tokens")


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
