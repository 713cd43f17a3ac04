"""What a demo shows at its end, read back from the catalog."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.tree import Tree

from dataset_tasks.model import Version
from dataset_tasks.ops.requests import GetCopy, GetCopyResult
from dataset_tasks.session import Session

#: Columns of a console that is no terminal: wide enough that no row is cut.
PIPE_WIDTH = 120


def console() -> Console:
    """A console for people and pipes alike; names are data, never markup."""
    plain = Console(markup=False, highlight=False)
    return plain if plain.is_terminal else Console(markup=False, highlight=False, width=PIPE_WIDTH)


def show(session: Session, out: Console, *, made: Collection[str]) -> None:
    """Prints lineage and versions.

    Args:
        session: Where the demo ran.
        out: Where to print.
        made: Ids of the versions that this run made; they are marked.
    """
    versions = session.catalog.versions()
    out.print()
    out.print(lineage(session, _newest(versions)))
    out.print("\nVersions")
    out.print(table(versions, made))


def show_copy(session: Session, out: Console, ref: str) -> None:
    """Prints where the copy of a version lies; makes it where there is none."""
    copy = session.run(GetCopy(ref=ref))
    assert isinstance(copy, GetCopyResult)
    holds = f"{copy.files} files, {decimal(copy.bytes)}"
    out.print(f"{ref} is version {copy.version}: {holds}, read-only in {copy.folder}", soft_wrap=True)


def lineage(session: Session, versions: Collection[Version]) -> Tree:
    """The versions that nothing was made from, each above what it was made from; what comes twice is told once."""
    shown: set[str] = set()
    root = Tree("Lineage: each version above those it was made from")
    read = {id_ for version in versions for id_, _ in _sources(version)}
    for version in versions:
        if version.id not in read:
            _branch(session, root, version, "", shown)
    return root


def table(versions: Collection[Version], made: Collection[str]) -> Table:
    """One row a version, in the order they were made."""
    out = Table()
    for column, right in (("version", 0), ("files", 1), ("bytes", 1), ("new bytes stored", 1), ("state", 0), ("", 0)):
        out.add_column(column, justify="right" if right else "left", no_wrap=True)
    for version in versions:
        mark = "new" if version.id in made else ""
        counts = (f"{version.files:,}", f"{version.bytes:,}", f"{version.new_bytes:,}")
        out.add_row(version.label, *counts, str(version.state), mark)
    return out


def _branch(session: Session, tree: Tree, version: Version, how: str, shown: set[str]) -> None:
    again = version.id in shown
    shown.add(version.id)
    branch = tree.add(f"{version.label}{how}{', see above' if again else ''}")
    if not again:
        for id_, label in _sources(version):
            _branch(session, branch, session.catalog.version(id_), f" ({label})", shown)


def _sources(version: Version) -> list[tuple[str, str]]:
    """Ids of what a version was made from, and how; its own previous version is no news."""
    parents = [(id_, "parent") for id_ in version.parents if id_ != version.previous_id]
    inputs = [(read.ref.removeprefix("id:"), "input") for read in version.inputs]
    squashed = version.origin.get("squash")
    return parents + inputs + [(str(id_), "squashed") for id_ in (squashed if isinstance(squashed, list) else [])]


def _newest(versions: Collection[Version]) -> list[Version]:
    return list({version.dataset: version for version in versions if version.state.is_final}.values())
