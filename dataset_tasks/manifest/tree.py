"""A path can't be both a file and a folder: finding such pairs in a sorted stream without reading all of it.

Between a file `x` and a path `x/y` only paths that begin with `x` and go on with a byte up to `/` can stand (`x-1`,
`x.txt`). So rows need a look at neighbours only; files that may still meet a path below them are *watched* until the
stream has passed. A segment that is taken over unread is fine in itself; only where pieces of different origin meet, a file
further back in an unread segment may matter, and then that segment is read.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import pyarrow as pa

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.kernels import pc
from dataset_tasks.manifest.columns import AFTER_SLASH, NOTHING, flat, lower_bound, quoted

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

    def rows(self, paths: pa.Array) -> None:
        """Passes the paths of some rows, which may be mixed from anywhere.

        Raises:
            InvalidArgumentError: One of them lies below a file, or is a file with others below it.
        """
        self._meet(paths[0].as_py(), None)
        for file in self._watched:
            _refuse_below(file, paths)
        # `file` < `after` < `file0` says that `after` is `file` and more, which begins with a byte up to `/`.
        limits = pc.binary_join_element_wise(paths.slice(0, len(paths) - 1), AFTER_SLASH, NOTHING)
        watched = paths.slice(0, len(paths) - 1).filter(pc.less(paths.slice(1), limits)).to_pylist()
        for file in watched:
            _refuse_below(file, paths)
        self._watched += watched
        self._last = paths[-1].as_py()

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
        return bool(paths[lower_bound(paths, path)].as_py() == path)


def _paths(segment: Segment, origin: Manifest) -> pa.Array:
    return flat(origin.read(segment, ("path",))["path"])


def _shared(left: bytes, right: bytes) -> int:
    """How many bytes two paths have in common from the start."""
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))


def _refuse_below(file: bytes, paths: pa.Array) -> None:
    """Raises if one of some sorted paths lies below a file."""
    below = paths.slice(lower_bound(paths, file + b"/"), 1).to_pylist()
    if below and below[0] < file + b"0":
        raise InvalidArgumentError(
            f"{quoted(file)} can't be both a file and a folder: {quoted(below[0])} lies below it",
            hint="Remove one of the two, or put one under another path.",
        )
