"""external: puts links to files into a draft. Their bytes stay where they are; size and pin are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from dataset_tasks import external, paths
from dataset_tasks.errors import InvalidArgumentError, SourceError, SourceUnavailableError
from dataset_tasks.external import Found
from dataset_tasks.external.urls import with_connection
from dataset_tasks.manifest import Manifest, PathRange
from dataset_tasks.manifest.columns import binaries, int64s, strings
from dataset_tasks.model import Version
from dataset_tasks.ops.content import Edit, commit_edit
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.requests import AddExternal, AddExternalResult
from dataset_tasks.store.opened import Opener

_AT_ONCE = 8
_BATCH = 4096
_SHOWN = 20


def run(context: Context, request: AddExternal) -> AddExternalResult:
    """Adds what the URLs lead to, all of it or nothing.

    Raises:
        InvalidArgumentError: A URL can't be a link or holds credentials, a pattern or `dataset_path` is no good, or two
            links would land on one path.
        SourceError: URLs can't be reached, read or pinned, or give names that no dataset path can hold; all are named.
        SourceUnavailableError: Only servers that do not answer stand in the way; trying again may help.
        StateError: The version is no draft and would change.
    """
    version = draft_or_final(context, request.ref)
    edit = links(context, request, version.dataset, context.session.manifest(version))

    def result(now: Version) -> AddExternalResult:
        return AddExternalResult(
            **about(now), added=edit.added, modified=edit.modified, files=edit.files, bytes=edit.bytes
        )

    return result(commit_edit(context, request, version, edit, result))


def links(context: Context, request: AddExternal, title: str, base: Manifest) -> Edit:
    """The edit that puts the links of a request into a manifest; those that it has just so are not in it.

    Raises:
        InvalidArgumentError, SourceError: As `run`.
    """
    folder = paths.normalise(request.dataset_path)
    urls = list(dict.fromkeys(with_connection(external.canonical(url), request.connection) for url in request.urls))
    if not urls:
        raise InvalidArgumentError("there is no URL to link to", hint="Give one or several.")
    with context.progress.task(f"{title}: look at links", files=len(urls)) as task:
        found = _reached(urls, request, context.session.stores)
        task.advance(files=len(urls))
    return _compared(base, _placed(found, folder))


def _reached(urls: Sequence[str], request: AddExternal, stores: Opener) -> list[Found]:
    """What all URLs lead to, a few of them asked at a time."""

    def reach(url: str) -> list[Found] | SourceError:
        try:
            return external.find(url, stores=stores, wildcard=request.wildcard, recursive=request.recursive)
        except SourceError as error:
            return error

    with ThreadPoolExecutor(min(_AT_ONCE, len(urls)), thread_name_prefix="dataset-tasks-links") as pool:
        answers = list(pool.map(reach, urls))
    failed = {url: each for url, each in zip(urls, answers, strict=True) if isinstance(each, SourceError)}
    if failed:
        raise _failure(failed)
    return [found for each in answers if not isinstance(each, SourceError) for found in each]


def _failure(failed: Mapping[str, SourceError]) -> SourceError:
    errors = list(failed.values())
    kind = SourceUnavailableError if all(error.retryable for error in errors) else SourceError
    if len(errors) == 1:
        return kind(errors[0].message, paths=tuple(failed), hint=errors[0].hint, kind=errors[0].kind)
    lines = [f"- {error.message}" for error in errors[:_SHOWN]]
    more = [f"- and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return kind(
        "\n".join([f"{len(errors)} URLs can't be linked to:", *lines, *more]),
        paths=tuple(failed),
        hint="Nothing was added: mend these URLs or leave them out.",
    )


def _placed(found: Iterable[Found], folder: bytes) -> list[Found]:
    """The links under their dataset paths, sorted."""
    placed: dict[bytes, Found] = {}
    bad: list[str] = []
    for each in found:
        path = paths.join(folder, each.path)
        if why := paths.fault(path):
            bad.append(f"- {paths.show(each.url)}: its path {why}")
            continue
        other = placed.setdefault(path, each._replace(path=path))
        if other.url != each.url:
            raise InvalidArgumentError(
                f"{paths.show(other.url)} and {paths.show(each.url)} would both be {paths.show(path)}",
                hint="Add them in two calls, with a `dataset_path` each.",
            )
    if bad:
        raise SourceError(
            "\n".join(["names that no dataset path can hold:", *bad[:_SHOWN]]),
            paths=tuple(line[2:] for line in bad),
            hint="Nothing was added: rename them, or take others with `wildcard`.",
        )
    return sorted(placed.values())


def _compared(base: Manifest, found: Sequence[Found]) -> Edit:
    edit = Edit(files=len(found), bytes=sum(each.size for each in found))
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        held = _held(base, PathRange(batch[0].path, batch[-1].path + b"\0"))
        new = [each for each in batch if held.get(each.path) != (each.size, each.url, each.pin)]
        if new:
            edit.upserts.append(_table(new))
        added = sum(each.path not in held for each in new)
        edit.added += added
        edit.modified += len(new) - added
    return edit


def _held(base: Manifest, within: PathRange) -> dict[bytes, tuple[int, str | None, str | None]]:
    names = ("path", "size", "link", "pin")
    table = base.to_table(names, within=within)
    columns = (table[name].to_pylist() for name in names)
    return {path: (size, link, pin) for path, size, link, pin in zip(*columns, strict=True)}


def _table(found: Sequence[Found]) -> pa.Table:
    columns = {
        "path": binaries([each.path for each in found]),
        "size": int64s(each.size for each in found),
        "link": strings([each.url for each in found]),
        "pin": strings([each.pin for each in found]),
    }
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))
