"""What a command works with: its output, its session, the version it is about, and how it runs an operation."""

from __future__ import annotations

import getpass
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from dataset_tasks.cli import last_used
from dataset_tasks.cli.command import Exit
from dataset_tasks.cli.output import Output, shown
from dataset_tasks.errors import CatalogError, InvalidArgumentError, NotFoundError
from dataset_tasks.model import JsonValue, Reference, State, Version
from dataset_tasks.paths import show
from dataset_tasks.progress import LogLines, Progress, Silent
from dataset_tasks.settings import Settings

if TYPE_CHECKING:
    from dataset_tasks.ops.requests import Request, Result
    from dataset_tasks.session import Session


class Want(Enum):
    """What a reference without `@` means to a command."""

    DRAFT = "the open draft"
    LATEST = "the latest final version"
    PUBLISHED = "the published version"
    ONLY = "the only version"


@dataclass(slots=True)
class Cli:
    """One call of the command line."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    home: str | None = None
    catalog: str | None = None
    store: str | None = None
    out: Output = field(init=False)

    def __post_init__(self) -> None:
        self.out = Output(as_json=self.as_json, quiet=self.quiet)

    def has_catalog(self) -> bool:
        """False where the home folder's own catalog is meant and was not made yet.

        Raises:
            CatalogError: It was made, and is lost: its data still lie in the store.
        """
        settings = Settings.from_env(home=self.home, catalog_url=self.catalog, store_url=self.store)
        if not settings.embedded or (settings.home / "catalog.db").exists():
            return True
        from dataset_tasks.beginning import refuse_to_begin_again  # pulls in SQLAlchemy

        refuse_to_begin_again(settings)
        return False

    def require_catalog(self) -> None:
        """Tells a newcomer what makes the catalog of the home folder, where there is none yet.

        Raises:
            CatalogError: There is none, or it is lost.
        """
        if not self.has_catalog():
            home = str(Settings.from_env(home=self.home).home)
            raise CatalogError(
                f"nothing was made in {show(home)} yet: it has no catalog",
                hint="`dataset-tasks create PROJECT/NAME`, `build` and `run` make one with the first dataset. Are your "
                "versions elsewhere? Name the folder with --home or DATASET_TASKS_HOME, or the catalog with --catalog.",
            )

    @contextmanager
    def session(self, *, create: bool = False) -> Iterator[Session]:
        """The session that the options and the environment describe.

        Args:
            create: Whether a catalog may be made where there is none: for commands that make datasets.

        Raises:
            CatalogError: The home folder has none yet, and none may be made.
        """
        from dataset_tasks.session import open_session  # pulls in SQLAlchemy

        if not create:
            self.require_catalog()
        with open_session(home=self.home, catalog_url=self.catalog, store_url=self.store, create=create) as session:
            yield session

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on a terminal, log lines elsewhere, nothing but warnings under `--quiet`; all on stderr."""
        with self.logging():
            if self.quiet:
                yield Silent()
            elif self.out.errors.is_terminal:
                from dataset_tasks.bars import Bars

                with Bars(self.out.errors) as bars:
                    yield bars
            else:
                yield LogLines()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Sends the library's log to stderr, above the bars where there are some."""
        log = logging.getLogger("dataset_tasks")
        handler, level = _Lines(self.out), log.level
        log.addHandler(handler)
        log.setLevel(logging.WARNING if self.quiet else logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    # --- versions

    def version(self, session: Session, ref: str | None, given_id: str | None, want: Want) -> Version:
        """The version a command is about: the one named, else the last one used here.

        Raises:
            InvalidArgumentError: Two different ones are named, or none and none was used before.
            NotFoundError: The catalog has no such version.
        """
        if ref is not None and given_id is not None and ref != given_id:
            raise InvalidArgumentError(
                f"two versions are named: {ref!r} and --id {given_id!r}", hint="Name one of them."
            )
        text = ref if ref is not None else given_id
        if text is None:
            text = last_used.recall(session.settings.home, session.catalog.id)
        return find(session, text, want)

    def remember(self, session: Session, version_id: str) -> None:
        """Makes the version the one that the next command works on."""
        last_used.remember(session.settings.home, session.catalog.id, version_id)

    # --- operations

    def perform(
        self,
        session: Session,
        request: Request,
        describe: Callable[[Result], str],
        *,
        bare: Callable[[Result], str] = lambda result: result.version_id,
        failed: Callable[[Result], bool] = lambda _result: False,
        remember: bool = True,
        stands: Callable[[Result], str] = lambda _result: "",
    ) -> Exit:
        """Runs an operation and shows its result.

        Args:
            session: Where to run it.
            request: What to do.
            describe: The result in a line or more, its data passed through `shown`.
            bare: What `--quiet` prints, passed through `shown` too; nothing when empty.
            failed: Whether a result that came without an error is a failure all the same.
            remember: Whether the next command works on this version when it names none.
            stands: Why the operation changed nothing, where it does not tell so itself; empty when it did.
        """
        with self.progress() as progress:
            result = session.run(request, origin=origin(), progress=progress)
        if why := stands(result):
            result = replace(result, unchanged=True, why=why)
        if remember:
            self.remember(session, result.version_id)
        if self.as_json:
            self.out.document(document(result))
        elif self.quiet:
            if answer := bare(result):
                self.out.line(answer)
        elif result.unchanged:
            self.out.line(f"unchanged: {label(result)} stands{f' ({shown(result.why)})' if result.why else ''}")
        else:
            self.out.line(describe(result))
        if failed(result):
            return Exit.FAILED
        return Exit.NOTHING_TO_DO if result.unchanged else Exit.DONE


class _Lines(logging.Handler):
    def __init__(self, out: Output) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        self._out.errors.print(shown(record.getMessage(), keep="\n\t"), soft_wrap=True)


def find(session: Session, text: str, want: Want) -> Version:
    """The version that a reference names; `want` says what one without `@` means.

    Raises:
        InvalidArgumentError: The text is no reference, or several versions answer where one is needed.
        NotFoundError: Nothing answers.
    """
    wanted = Reference.parse(text)
    if wanted.id is not None or "@" in text or want is Want.PUBLISHED:
        return session.catalog.resolve(text)
    if want is Want.LATEST:
        return session.catalog.resolve(f"{text}@latest")
    states = {State.IN_PROGRESS} if want is Want.DRAFT else None
    found = session.catalog.versions(project=wanted.project, name=wanted.name, states=states)
    if not found and want is Want.DRAFT:
        raise NotFoundError(
            f"{text!r} has no open draft",
            hint=f"Make one with `dataset-tasks create {text}`, or name a version as `{text}@1.0.0`.",
        )
    if not found:
        return session.catalog.resolve(f"{text}@latest")
    if len(found) > 1:
        raise InvalidArgumentError(
            f"{text!r} names {len(found)} versions: {', '.join(f'{v.version} ({v.state}, {v.id})' for v in found[-10:])}",
            hint="Name one of them by its id or version string.",
        )
    return found[-1]


def origin() -> Mapping[str, JsonValue]:
    """Who asks: kept with the versions that are made."""
    return {"runner": "cli", "user": user(), "host": platform.node()}


def user() -> str:
    """The name of the user, as far as the system knows one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        return ""


def label(result: Result) -> str:
    """The version of a result as `project/name@version`."""
    return shown(f"{result.project}/{result.name}@{result.version}")


def document(result: Result) -> dict[str, JsonValue]:
    """Every field of a result as JSON, defaults too: scripts can rely on each being there."""
    from dataclasses import fields

    return {spec.name: _plain(getattr(result, spec.name)) for spec in fields(result)}


def _plain(value: object) -> JsonValue:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    assert value is None or isinstance(value, str | int | float | bool)
    return value
