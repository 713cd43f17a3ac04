"""A path can't be both a file and a folder: finding such pairs in a sorted stream without reading all of it.

Between a file `x` and a path `x/y` only paths that begin with `x` and go on with a byte up to `/` can stand (`x-1`,
`x.txt`). So rows need a look at neighbours only; files that may still meet a path below them are *watched* until the
stream has passed. A segment that is taken over unread is fine in itself; only where pieces of different origin meet, a file
further back in an unread segment may matter, and then that segment is read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.manifest.columns import show

if TYPE_CHECKING:
    from dataset_tasks.manifest.reading import Manifest
    from dataset_tasks.manifest.segments import Segment

_SLASH = b"/"[0]


class TreeCheck:
    """Watches a sorted stream of entries; hand it every row and every unread segment in order."""

    def __init__(self) -> None:
        self._last = b""
        self._origin: Manifest | None = None
        self._unread: list[tuple[Segment, Manifest]] = []
        self._watched: list[bytes] = []

    def rows(self, paths: Sequence[bytes]) -> None:
        """Passes the paths of some rows, which may be mixed from anywhere.

        Raises:
            InvalidArgumentError: One of them lies below a file, or is a file with others below it.
        """
        self._meet(paths[0], None)
        for file in self._watched:
            _refuse_below(file, paths)
        for file, after in pairwise(paths):
            if after.startswith(file) and after[len(file)] <= _SLASH:
                _refuse_below(file, paths)
                self._watched.append(file)
        self._last = paths[-1]

    def segment(self, segment: Segment, origin: Manifest) -> None:
        """Passes a whole segment of a manifest that is valid in itself, without reading it unless there is need.

        Raises:
            InvalidArgumentError: It holds a path below a file that came before.
        """
        self._meet(segment.first, origin)
        for file in self._watched:
            if segment.last > file + b"/":
                _refuse_below(file, _paths(segment, origin))
        self._unread.append((segment, origin))
        self._last = segment.last

    def _meet(self, first: bytes, origin: Manifest | None) -> None:
        """Looks for files further back that a piece beginning with `first` may lie below."""
        self._watched = [file for file in self._watched if first < file + b"0"]
        if origin is None or origin is not self._origin:
            shared = _shared(self._last, first)
            for length in range(1, min(shared + 1, len(first))):
                # A folder of the path before has been found not to be a file.
                if first[length] <= _SLASH and self._last[length : length + 1] != b"/":
                    file = first[:length]
                    if file not in self._watched and self._is_file(file):
                        self._watched.append(file)
        self._origin = origin

    def _is_file(self, path: bytes) -> bool:
        if path == self._last:
            return True
        position = bisect_right(self._unread, path, key=lambda item: item[0].first) - 1
        if position < 0:
            return False
        segment, origin = self._unread[position]
        if path > segment.last:
            return False
        paths = _paths(segment, origin)
        found = bisect_left(paths, path)
        return found < len(paths) and paths[found] == path


def _paths(segment: Segment, origin: Manifest) -> list[bytes]:
    paths: list[bytes] = origin.read(segment, ("path",))["path"].to_pylist()
    return paths


def _shared(left: bytes, right: bytes) -> int:
    """How many bytes two paths have in common from the start."""
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))


def _refuse_below(file: bytes, paths: Sequence[bytes]) -> None:
    """Raises if one of some sorted paths lies below a file."""
    found = bisect_left(paths, file + b"/")
    if found < len(paths) and paths[found] < file + b"0":
        raise InvalidArgumentError(
            f"{show(file)} can't be both a file and a folder: {show(paths[found])} lies below it",
            hint="Remove one of the two, or put one under another path.",
        )
