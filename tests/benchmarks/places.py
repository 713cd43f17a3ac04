"""Files as most files are: in memory when they are read, and written where nothing was deleted a moment ago."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4


def warm(folder: Path) -> None:
    """Reads everything: a file that the machine dropped from its memory meanwhile would cost whoever reads it first."""
    held = bytearray(1 << 20)
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb", buffering=0) as file:
                    while file.readinto(held):
                        pass


def put_aside(folder: Path, aside: Path) -> None:
    """Takes a folder away without deleting it yet, if it is there: into `aside`, on the same file system.

    ext4 gives the inode of a deleted file away again only after one to six minutes, and looks through all of those for each new
    file: whoever writes 20,000 files after 20,000 were deleted pays ten times the system time of the first one.
    """
    if folder.exists():
        aside.mkdir(exist_ok=True)
        folder.rename(aside / uuid4().hex)


def remove(folder: Path) -> None:
    """Deletes a folder, if it is there, read-only parts too."""
    for top, _, _ in os.walk(folder):
        os.chmod(top, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
