"""The ground of a handle: which version, in which session, and what its row says."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from dataset_tasks.errors import DatasetError, InvalidArgumentError
from dataset_tasks.model import State, Version
from dataset_tasks.ops import requests as r
from dataset_tasks.progress import SILENT, Progress
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.view import VersionView

_log = logging.getLogger("dataset_tasks")
T = TypeVar("T")
R = TypeVar("R", bound=r.Result)

_sessions: dict[Settings, Session] = {}
_reopened_sessions: dict[Settings, Session] = {}
_sessions_lock = threading.Lock()


def default_session() -> Session:
    """The session of this process for the present environment variables, opened once."""
    settings = Settings.from_env()
    with _sessions_lock:
        if settings not in _sessions:
            _sessions[settings] = Session(settings)
        return _sessions[settings]


def _reopened(kind: type[Handle], version_id: str, settings: Settings) -> Handle:
    """The handle in another process: no catalog is made where there is none, as on a machine of another home."""
    with _sessions_lock:
        session = _sessions.get(settings) or _reopened_sessions.setdefault(settings, Session(settings, create=False))
    return kind(version_id, session=session)


class HasId(Protocol):
    """A handle on a version, as far as others need it."""

    @property
    def id(self) -> str:
        """The version's id."""


#: A version: its id, or a handle.
VersionArg: TypeAlias = "str | HasId"


def id_of(version: VersionArg) -> str:
    """The id of a version, however it was given.

    Raises:
        InvalidArgumentError: It is neither an id nor a handle.
    """
    found = version if isinstance(version, str) else getattr(version, "id", None)
    if not isinstance(found, str):
        raise InvalidArgumentError(f"{version!r} is no version", hint="Give its id, or what `Dataset.get` returned.")
    return found


def ids_of(versions: VersionArg | Sequence[VersionArg]) -> list[str]:
    """The ids of versions; one that stands alone is taken for a list of one."""
    several = versions if isinstance(versions, Sequence) and not isinstance(versions, str) else [versions]
    return [id_of(version) for version in several]


def texts_of(given: object) -> tuple[str, ...] | None:
    """One text or several (patterns, tags) as a tuple.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return (given,)
    texts = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(each, str) for each in texts):
        raise InvalidArgumentError(f"{given!r} is neither a text nor several", hint="Give a str or a list of them.")
    return texts


def wanted_of(given: object) -> tuple[str, ...]:
    """The patterns of the files wanted; none for all of them.

    Raises:
        InvalidArgumentError: They are an empty list, which names no file.
    """
    texts = texts_of(given)
    if given is not None and not texts:
        raise InvalidArgumentError("`files` is empty: it names no file", hint="Leave it out for all files.")
    return texts or ()


def path_of(given: str | Path, what: str) -> str:
    """A path as a text.

    Raises:
        InvalidArgumentError: It is none.
    """
    try:
        return os.fsdecode(given)
    except TypeError as error:
        raise InvalidArgumentError(f"`{what}` is {given!r}, which is no path", hint="Give a str or a Path.") from error


def watched() -> AbstractContextManager[Progress]:
    """Bars while the block runs when stderr is a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        return nullcontext(SILENT)
    from dataset_tasks.bars import shown_progress  # rich, only for those who watch

    return shown_progress()


class Handle:
    """One version of a dataset; what its row in the catalog says is looked up each time it is asked for."""

    def __init__(self, version_id: str, *, session: Session | None = None) -> None:
        self._id = version_id
        self._session = session or default_session()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._version.label} ({self._id})>"

    def __copy__(self) -> Self:
        return type(self)(self._id, session=self._session)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[object, ...]:
        settings = self._session.settings
        if not self._session.is_plain or urlsplit(settings.catalog_url).password is not None:
            raise InvalidArgumentError(
                f"the {type(self).__name__} {self._id} can't be pickled: "
                + ("its catalog's URL holds a password" if self._session.is_plain else "its session was put together"),
                hint="Pass on its id, and open it there with `Dataset.get`.",
            )
        return _reopened, (type(self), self._id, settings)

    @property
    def id(self) -> str:
        """32 hex digits; it never changes and is never used again."""
        return self._id

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self._version.name

    @property
    def project(self) -> str:
        """Project of the dataset."""
        return self._version.project

    @property
    def version(self) -> str:
        """Version string."""
        return self._version.version

    @property
    def state(self) -> State:
        """Where the version is in its life."""
        return self._version.state

    @property
    def tags(self) -> list[str]:
        """Tags, sorted."""
        return list(self._version.tags)

    @property
    def description(self) -> str:
        """Free text."""
        return self._version.description

    @property
    def created(self) -> datetime:
        """When the draft was made, UTC."""
        return self._version.created

    @property
    def parents(self) -> list[str]:
        """Ids of the direct parents, in merge order."""
        return list(self._version.parents)

    def is_dirty(self) -> bool:
        """Whether files are added whose bytes are not uploaded."""
        return self._version.pending > 0

    def is_final(self) -> bool:
        """Whether the version can't change any more."""
        return self._version.state.is_final

    @property
    def _version(self) -> Version:
        return self._session.catalog.version(self._id)

    @property
    def _view(self) -> VersionView:
        return VersionView(self._session, self._version)

    def _run(self, request: r.Request, kind: type[R], progress: Progress = SILENT) -> R:
        return cast("R", self._session.run(request, progress=progress))

    def _run_watched(self, request: r.Request, kind: type[R]) -> R:
        with watched() as progress:
            return self._run(request, kind, progress)

    def _or(self, raises: bool, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except InvalidArgumentError:
            raise
        except DatasetError as error:
            if raises:
                raise
            _log.error("%s", error)  # the caller asked for no traceback
            return None

    def _telling(self, verbose: bool) -> AbstractContextManager[object]:
        return self._view.telling() if verbose else nullcontext()
