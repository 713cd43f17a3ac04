"""What an import reads and where it lands, settled before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from dataset_tasks import paths
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external import look
from dataset_tasks.external.base import Found
from dataset_tasks.external.urls import of_a_bucket, with_connection
from dataset_tasks.paths import SourceFilter, show
from dataset_tasks.store.opened import Opener

_PAGE: Final = 4096
#: How the names of buckets end that don't list by name.
_UNSORTED: Final = "--x-s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Files at a URL of an object store, and where they land: in `target`, by the URL's path `relative` to the base.

    `what` is all that says which objects are taken, as JSON.
    """

    url: str
    target: bytes
    relative: bytes
    wanted: SourceFilter
    deep: bool
    only_folders: bool
    what: dict[str, object]

    @classmethod
    def locate(
        cls,
        url: str,
        *,
        connection: str | None = None,
        wildcard: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        local_base_folder: str | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        only_folders: bool = False,
    ) -> Place:
        """Settles the arguments of an add or a sync; reads nothing.

        Args:
            url: Of an object, or of what lies below it.
            connection: Name of the connection with endpoint and credentials.
            wildcard: See `SourceFilter`; ignored for a single object.
            exclude: See `SourceFilter`; ignored for a single object.
            local_base_folder: URL that the dataset paths are relative to; default `url`.
            dataset_path: Folder of the dataset under which they land; default its root.
            recursive: See `SourceFilter`.
            only_folders: Whether a single object is refused.

        Raises:
            InvalidArgumentError: The URL can't be imported or holds credentials, `local_base_folder` is not above it, or
                `dataset_path` or a pattern is no good.
        """
        where = with_connection(of_a_bucket(url), connection)
        return cls(
            url=where,
            target=paths.normalise(dataset_path),
            relative=_below(where, local_base_folder, connection),
            wanted=SourceFilter(wildcard, exclude, recursive),
            deep=recursive or wildcard is not None,
            only_folders=only_folders,
            what={
                "url": where,
                "wildcard": list(wildcard or ()),
                "exclude": list(exclude),
                "recursive": recursive,
                "base": local_base_folder,
                "target": dataset_path,
            },
        )

    def pages(self, stores: Opener) -> Iterator[list[Found]]:
        """What is there, under its dataset paths, sorted, a few thousand at a time; listed while it is iterated.

        Args:
            stores: Gives the store at a URL (`Session.stores`): the bucket is listed through its client.

        Raises:
            InvalidArgumentError: It is a single object, and only folders are wanted.
            SourceError: Nothing is there, or it can't be listed.
            SourceUnavailableError: The server does not answer.
        """
        listed = look(self.url, self.wanted, deep=self.deep, stores=stores)
        if self.only_folders and not listed.is_folder:
            raise InvalidArgumentError(
                f"{show(self.url)} is a single object", hint="Sync what lies below a URL, or add it."
            )
        below = self.relative if listed.is_folder else self.relative.rpartition(b"/")[0]
        prefix = paths.join(self.target, below)
        prefix = prefix + b"/" if prefix else b""
        placed: Iterable[Found] = (found._replace(path=prefix + found.path) for found in listed.files)
        if urlsplit(self.url).netloc.endswith(_UNSORTED):
            placed = sorted(placed)
        page: list[Found] = []
        for found in placed:
            if page and found.path <= page[-1].path:
                raise SourceError(
                    f"{show(self.url)} does not list its objects by name: {show(found.path)} comes after {show(page[-1].path)}",
                    paths=(self.url,),
                    hint="Import its folders one by one, or copy it to a store that does.",
                )
            if len(page) == _PAGE:
                yield page
                page = []
            page.append(found)
        if page:
            yield page


def _below(url: str, base: str | None, connection: str | None) -> bytes:
    """The path of a URL relative to the base; nothing without one."""
    if base is None:
        return b""
    top = with_connection(of_a_bucket(base), connection) if "://" in base else ""
    one, other = urlsplit(url), urlsplit(top)
    path = unquote_to_bytes(one.path).strip(b"/")
    folder = unquote_to_bytes(other.path).strip(b"/")
    inside = not folder or path == folder or path.startswith(folder + b"/")
    if (one.scheme, one.netloc, one.query) != (other.scheme, other.netloc, other.query) or not inside:
        raise InvalidArgumentError(
            f"`local_base_folder` {show(base)} is not above {show(url)}",
            hint="Files are placed by their path relative to it: give a URL that the other one begins with.",
        )
    return path[len(folder) :].strip(b"/")
