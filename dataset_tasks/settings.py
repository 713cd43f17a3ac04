"""Where the catalog, the store and the cache are: from arguments, else the environment, else the home folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dataset_tasks.connections import HOME
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import show

CATALOG_URL = "DATASET_TASKS_CATALOG_URL"
STORE_URL = "DATASET_TASKS_STORE_URL"
CACHE_DIR = "DATASET_TASKS_CACHE_DIR"
#: `embedded` or `server`: which kind of catalog a worker of an orchestrator is meant to use.
CATALOG_KIND = "DATASET_TASKS_CATALOG"
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The four places. `catalog_url` is an SQLAlchemy URL, `store_url` a folder or an object-store URL.

    None of them depends on the working folder any more: who changes that later gets settings, and a session, of their own.
    `embedded` tells that the catalog is the home folder's own, made there when it is missing.
    """

    home: Path
    catalog_url: str
    store_url: str
    cache_dir: Path
    embedded: bool

    @classmethod
    def from_env(
        cls,
        *,
        home: str | Path | None = None,
        catalog_url: str | None = None,
        store_url: str | None = None,
        cache_dir: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings with each place taken from its argument, else its variable, else below the home folder.

        Paths that are not whole start at the working folder of now.

        Raises:
            InvalidArgumentError: A place is no UTF-8 or holds a NUL byte.
        """
        env = os.environ if environ is None else environ
        base = _folder(home or env.get(HOME) or Path.home() / ".dataset_tasks", "home")
        given = catalog_url or env.get(CATALOG_URL)
        return cls(
            home=base,
            catalog_url=_fixed(_checked(given or sqlite_url(base / "catalog.db"), "catalog URL")),
            store_url=_place(str(store_url or env.get(STORE_URL) or base / "store"), "store URL"),
            cache_dir=_folder(cache_dir or env.get(CACHE_DIR) or base / "cache", "cache folder"),
            embedded=given is None,
        )


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite catalog, in which `%`, `?` and `#` of the path are written as `%25`, `%3F` and `%23`."""
    return "sqlite:///" + "".join(quote(char) if char in "%?#" else char for char in str(path))


def is_embedded(kind: str | None, where: str) -> bool:
    """Whether a worker is told to use the catalog in its home folder.

    Args:
        kind: `embedded`, `server`, or nothing.
        where: Where that stands, for the error.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if kind not in (None, "", "server", EMBEDDED):
        raise InvalidArgumentError(f"{where} is {kind!r}, expected 'server' or {EMBEDDED!r}")
    return kind == EMBEDDED


def check_one_catalog(*, given: bool, embedded: bool, how: str) -> None:
    """Refuses to guess the catalog of a worker: one of its own on each would split versions in silence.

    Args:
        given: Whether the URL of a catalog is given.
        embedded: Whether the catalog of the home folder is asked for.
        how: How either is said in the orchestrator at hand, for the hint.

    Raises:
        InvalidArgumentError: Both are, or neither is.
    """
    if given and embedded:
        raise InvalidArgumentError(
            "a catalog URL is given, and an embedded catalog is asked for too", hint="Leave out one of the two."
        )
    if not given and not embedded:
        raise InvalidArgumentError(
            "no catalog is named: one of its own in each worker's home would split versions in silence, so none is made",
            hint=f"Name the catalog that all workers share, or say that one on this machine is meant: {how}; or "
            f"{CATALOG_URL}, or {CATALOG_KIND}={EMBEDDED}.",
        )


def _place(given: str, what: str) -> str:
    return _checked(given, what) if "://" in given else str(_folder(given, what))


def _fixed(catalog_url: str) -> str:
    """The URL with the whole path of an SQLite file that is given from the working folder on."""
    scheme, slashes, path = catalog_url.partition(":///")
    if not slashes or not scheme.startswith("sqlite") or not path or path.startswith(("/", ":")):
        return catalog_url
    return f"{scheme}{sqlite_url(Path.cwd()).removeprefix('sqlite')}/{path}"


def _folder(given: str | Path, what: str) -> Path:
    return Path(os.path.expanduser(_checked(str(given), what))).absolute()


def _checked(place: str, what: str) -> str:
    """The place, when a catalog can write it down and a system open it."""
    try:
        place.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the {what} {show(place)} is not UTF-8", hint="Choose a folder whose name is."
        ) from error
    if "\0" in place:
        raise InvalidArgumentError(f"the {what} {show(place)} holds a NUL byte", hint="Take it out.")
    return place
