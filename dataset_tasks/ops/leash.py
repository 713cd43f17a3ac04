"""Starts a program that ends when the one that asked for it does, also when that is killed.

Not imported: `transform` runs this file with the standard library alone, and it becomes the program.

    python -I -S leash.py PARENT PROGRAM [ARGUMENT ...]

A function between fork and exec would do the same, but is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Becomes `argv`; ends at once when `parent` is gone already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux has it; elsewhere only a stop that we see ends the program
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # becoming the user's program is what this is for
    except OSError as error:
        sys.exit(f"{argv[0]} can't be started: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
