"""Commands about the files of versions: ls and diff."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli, Want, find
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.model import Change, Diff, JsonValue, Version

if TYPE_CHECKING:
    from dataset_tasks.session import Session

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "ls", panel=PANEL)(ls)
    command(app, "diff", "compare", panel=PANEL)(diff)


class _File(NamedTuple):
    path: str
    size: int
    hash: str
    owner: str
    link: str | None

    def document(self) -> dict[str, JsonValue]:
        link: dict[str, JsonValue] = {"link": self.link} if self.link is not None else {}
        return {"path": self.path, "size": self.size, "hash": self.hash, "version_id": self.owner, **link}


def ls(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    files: Annotated[
        list[str] | None,
        typer.Option("--files", "-f", metavar="PATTERN", help="Only these; repeat.", show_default=False),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Also bytes, hash and the version that brought it.")
    ] = False,
) -> None:
    """List the files of a version, sorted by path."""
    with cli.session() as session:
        version = cli.version(session, ref, id, Want.PUBLISHED)
        found = _files(session, version, tuple(files or ()))
        if cli.as_json:
            head: dict[str, JsonValue] = {
                "version_id": version.id,
                "dataset": version.dataset,
                "version": version.version,
            }
            cli.out.stream(head, "files", (f.document() for f in found))
            return
        seen = seen_bytes = 0
        for file in found:
            seen += 1
            seen_bytes += file.size
            details = f"{file.size:>14,}  {file.hash[:12]:12}  {file.owner[:12]}  " if long else ""
            cli.out.line(details + shown(file.path) + (f" -> {shown(file.link)}" if file.link else ""))
        if long:
            cli.out.note(f"{shown(version.label)}: {count(seen, 'file')}, {size(seen_bytes)}")


def _files(session: Session, version: Version, patterns: tuple[str, ...]) -> Iterator[_File]:
    """The files that one of the patterns means, all without any; read part by part."""
    from dataset_tasks.paths import DatasetPattern, to_text

    wanted = [DatasetPattern(pattern) for pattern in patterns]
    for table in session.manifest(version).batches(("path", "size", "hash", "owner", "link")):
        columns = (table[name].to_pylist() for name in ("path", "size", "hash", "owner", "link"))
        for path, length, digest, owner, link in zip(*columns, strict=True):
            if not wanted or any(pattern.matches(path) for pattern in wanted):
                yield _File(to_text(path), length, digest.hex() if any(digest) else "", owner, link)


def diff(
    cli: Cli,
    ref: opt.Ref = None,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="NEWER",
            help="Compare REF with this version. Default: REF with what it was made from.",
            show_default=False,
        ),
    ] = None,
    id: opt.Id = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only how many files and bytes.")] = False,
) -> None:
    """Show which files were added (+), modified (~) and removed (-) between two versions."""
    with cli.session() as session:
        one = cli.version(session, ref, id, Want.PUBLISHED)
        newer = find(session, other, Want.PUBLISHED) if other is not None else one
        found = _difference(session, newer, one if other is not None else None)
        if cli.as_json:
            head: dict[str, JsonValue] = {
                "old": [one.id] if other is not None else list(one.parents),
                "new": newer.id,
                "added": len(found.added),
                "modified": len(found.modified),
                "removed": len(found.removed),
            }
            cli.out.stream(head, "changes", _documents(found))
            return
        if not summary:
            for sign, change in _sorted(found):
                cli.out.line(_change(sign, change) if not cli.quiet else f"{sign} {shown(change.path)}")
        cli.out.note(_summary(found))


def _difference(session: Session, newer: Version, older: Version | None) -> Diff:
    """From the older version, or the merged parents, to the newer one."""
    from dataset_tasks.view import VersionView

    return VersionView(session, newer).compared(older.id if older is not None else None)


def _documents(found: Diff) -> Iterator[dict[str, JsonValue]]:
    words = {"+": "added", "~": "modified", "-": "removed"}
    for sign, change in _sorted(found):
        yield {"change": words[sign], "path": change.path, "old_size": change.old_size, "new_size": change.new_size}


def _sorted(found: Diff) -> list[tuple[str, Change]]:
    signed = [
        *(("+", c) for c in found.added),
        *(("~", c) for c in found.modified),
        *(("-", c) for c in found.removed),
    ]
    return sorted(signed, key=lambda each: each[1].path.encode("utf-8", "surrogateescape"))


def _change(sign: str, change: Change) -> str:
    match change.old_size, change.new_size:
        case int() as old, int() as new if old != new:
            sizes = f"{size(old)} -> {size(new)}"
        case old, new:
            sizes = size(new if new is not None else old or 0)
    return f"{sign} {shown(change.path)}  ({sizes})"


def _summary(found: Diff) -> str:
    parts = []
    for sign, word, changes in (
        ("+", "added", found.added),
        ("~", "modified", found.modified),
        ("-", "removed", found.removed),
    ):
        moved = sum((c.new_size or 0) - (c.old_size or 0) for c in changes)
        amount = f", {'-' if moved < 0 else '+'}{size(abs(moved))}" if changes else ""
        parts.append(f"{sign}{len(changes):,} {word}{amount}")
    return "; ".join(parts)
