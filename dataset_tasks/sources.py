"""What an add reads and where it lands, settled before anything is read."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataset_tasks import paths
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.paths import SourceFilter

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str | Path) -> bool:
    """Whether what an add or a sync is given is a URL, not a path of this machine."""
    return _URL.match(str(text)) is not None


def pinned(url: str, pin: str) -> bytes:
    """How the source of an imported file is written down, among the paths of others; `unpinned` reads it."""
    return f"{url} {pin}".encode()


def unpinned(source: bytes) -> tuple[str, str] | None:
    """URL and pin of an imported file; None for the path of a file."""
    if source.startswith(b"/"):
        return None
    url, _, pin = source.decode().partition(" ")
    return url, pin


@dataclass(frozen=True, slots=True)
class Source:
    """What an add reads and where it lands.

    `folder` is absolute and free of links, without a trailing `/` (but `/` itself); `name` the one file in it that is
    meant, None for the whole folder; `prefix` the dataset path of `folder`, empty or ending in `/`.
    """

    folder: bytes
    name: bytes | None
    prefix: bytes
    wanted: SourceFilter

    @property
    def path(self) -> bytes:
        """The absolute path of the folder, or of the one file."""
        return self.folder if self.name is None else os.path.join(self.folder, self.name)

    @classmethod
    def locate(
        cls,
        path: str | Path,
        *,
        wildcard: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        local_base_folder: str | Path | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
    ) -> Source:
        """Settles the arguments of an add; reads no file.

        Args:
            path: A file or folder; resolved first when it is a link.
            wildcard: See `SourceFilter`; ignored for a single file.
            exclude: See `SourceFilter`; ignored for a single file.
            local_base_folder: Files land under their path relative to it; default `path`, or a single file's folder.
            dataset_path: Folder of the dataset under which they land; default its root.
            recursive: See `SourceFilter`.

        Raises:
            InvalidArgumentError: `local_base_folder` is not above `path`; `dataset_path` or a pattern is no good.
            SourceError: There is no such path, it can't be reached, or it is neither file nor folder.
        """
        wanted = SourceFilter(wildcard, exclude, recursive)
        target = paths.normalise(dataset_path)
        given = _absolute(path, "path")
        found, mode = _resolve(given)
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise SourceError(
                f"{paths.show(given)} is neither a file nor a folder",
                paths=(paths.show(given),),
                hint="FIFOs, sockets and devices hold no content to version.",
            )
        if stat.S_ISDIR(mode):
            folder, name = found, None
        else:
            folder, name = os.path.split(found)
        place = paths.join(target, _below_base(given, folder, name, local_base_folder))
        if place and (why := paths.fault(place)):
            raise SourceError(
                f"Files of {paths.show(given)} would land under {paths.show(place)}, which {why}",
                paths=(paths.show(given),),
                hint="Rename the folder, or choose a `local_base_folder` below it.",
            )
        return cls(folder, name, place + b"/" if place else b"", wanted)


def _absolute(path: str | Path, argument: str) -> bytes:
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"`{argument}` is no file name: {paths.show(str(path))}") from error
    if not raw or b"\0" in raw:
        raise InvalidArgumentError(
            f"`{argument}` {'holds a NUL byte' if raw else 'is empty'}", hint="Give the path of a file or folder."
        )
    return os.path.join(os.getcwdb(), raw)


def _resolve(path: bytes) -> tuple[bytes, int]:
    """The path without links, and the mode of what is there."""
    shown = paths.show(path)
    try:
        found = os.path.realpath(path, strict=True)
        return found, os.stat(found).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            message = f"{shown} is a link that leads nowhere" if os.path.islink(path) else f"There is no {shown}"
        elif error.errno == errno.ELOOP:
            message = f"{shown} leads through a loop of links"
        else:
            message = f"{shown} can't be reached: {error.strerror}"
        hint = "Check the path; it is looked up on the machine that runs this step."
        raise SourceError(message, paths=(shown,), hint=hint) from error


def _below_base(given: bytes, folder: bytes, name: bytes | None, base: str | Path | None) -> bytes:
    """The path of `folder` relative to the base; `name` is the single file that was given, if it was one."""
    if base is None:
        return b""
    written = _absolute(base, "local_base_folder")
    real = os.path.realpath(written)
    if name is not None and real == os.path.join(folder, name):
        return b""
    relative = _relative(folder, real)
    if relative is None and not os.path.islink(given) and b".." not in written.split(b"/") + given.split(b"/"):
        # A link above both of them, or between: then the paths as they were written may say it.
        as_given = os.path.normpath(given)
        relative = _relative(as_given if name is None else os.path.dirname(as_given), os.path.normpath(written))
    if relative is None:
        raise InvalidArgumentError(
            f"`local_base_folder` {paths.show(written)} is not above {paths.show(given)}",
            hint="Files are placed by their path relative to it: give a folder that contains `path`.",
        )
    return relative


def _relative(path: bytes, base: bytes) -> bytes | None:
    if path == base:
        return b""
    base = base.rstrip(b"/") + b"/"
    return path[len(base) :] if path.startswith(base) else None
