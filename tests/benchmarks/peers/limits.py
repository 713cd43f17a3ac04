"""What the machine can do: the least that reading, hashing and listing a folder costs with plain system calls.

python limits.py walk|hash FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator


def files(folder: str) -> Iterator[str]:
    """Every file below a folder, looked at with one stat each."""
    todo = [folder]
    while todo:
        with os.scandir(todo.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    todo.append(each.path)
                else:
                    each.stat(follow_symlinks=False)
                    yield each.path


def digest(path: str, buffer: bytearray) -> str:
    """SHA-256 of a file, read through one buffer."""
    state, view = hashlib.sha256(), memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            state.update(view[:count])
    return state.hexdigest()


if __name__ == "__main__":
    what, folder = sys.argv[1:]
    if what == "walk":
        print(sum(1 for _ in files(folder)))
    else:
        held = bytearray(1 << 20)
        print(len({digest(path, held) for path in files(folder)}))
