"""What all commands share: how they take their flags, and how they end."""

import argparse
import sys

from ..files import InputError


def make_parser(description, **settings):
    """An ArgumentParser that raises InputError where argparse would print its usage and exit."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **settings,
    )

    def fail(message):
        raise InputError(f"{message}; see --help")

    parser.error = fail
    return parser


def run_main(main, name):
    """Run `main` as a program.

    Bad input, or a file that can't be written, is one line and exit status 2; Ctrl-C is 130.
    Characters that the terminal or the file of the output lacks are printed as question marks.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    try:
        main()
    except (InputError, OSError) as e:
        print(f"{name}: error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what it has saved", file=sys.stderr)
        sys.exit(130)
