"""What all commands share: how they take their flags, and how they end."""

import argparse
import os
import shlex
import signal
import sys
from functools import partial

from ..files import InputError


def make_parser(description, **settings):
    """An ArgumentParser that raises InputError where argparse would print its usage and exit."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=partial(
            argparse.RawDescriptionHelpFormatter, width=100, max_help_position=32
        ),
        **settings,
    )

    def fail(message):
        raise InputError(f"{message}; see --help")

    parser.error = fail
    return parser


def positive(text):
    """A flag's value that counts something: a whole number, at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seed_number(text):
    """A flag's value that is a seed: a whole number from 0 to 2**32 - 1."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**32 - 1")
    return int(text)


def split_flags(text):
    """Flags in one string, as a shell splits them. Raises InputError."""
    try:
        return shlex.split(text)
    except ValueError as e:
        raise InputError(f"--flags: {e}; write it as for a shell, with quotes in pairs") from None


def check_encoding(names):
    """Raise InputError where a file could have a name that can't be written into results."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{ascii(name)}: is not UTF-8; give the file another name") from None


def run_main(main, name):
    """Run `main` as a program.

    Bad input, or a file that can't be written, is one line and exit status 2; Ctrl-C is 130, and so
    is `kill`, so that what was started side by side ends with it.
    Characters that the terminal or the file of the output lacks are printed as question marks.
    """
    for which in ("stdout", "stderr"):
        stream = getattr(sys, which)
        if stream is None:  # closed
            setattr(sys, which, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):  # a notebook's can't, and need not
            stream.reconfigure(errors="replace")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_encoding([*sys.argv, os.getcwd()])
        main()
    except (InputError, OSError) as e:
        print(f"{name}: error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what it has saved", file=sys.stderr)
        sys.exit(130)
    finally:  # a notebook goes on
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
