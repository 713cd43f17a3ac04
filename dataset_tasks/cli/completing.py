"""What the shell offers for an argument: names of datasets, and after `@` what the versions of one are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from dataset_tasks.errors import DatasetError
from dataset_tasks.model import RESERVED_ALIASES

if TYPE_CHECKING:
    from dataset_tasks.session import Session


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """The datasets whose `project/name` begins so."""
    return _offered(ctx, incomplete, _datasets)


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """As `datasets`, and the versions and aliases of one once its name ends with `@`."""
    return _offered(ctx, incomplete, _versions if "@" in incomplete else _datasets)


def _offered(ctx: typer.Context, incomplete: str, all_of: Callable[[Session, str], Iterator[str]]) -> list[str]:
    """Nothing where the catalog can't be read: that is for the command to tell, not for half of it."""
    from dataset_tasks.cli.context import Cli

    given = ctx.params
    cli = Cli(home=given.get("home"), catalog=given.get("catalog"), store=given.get("store"))
    try:
        if not cli.has_catalog():
            return []
        with cli.session() as session:
            return [each for each in all_of(session, incomplete) if each.startswith(incomplete)]
    except (DatasetError, OSError):
        return []


def _datasets(session: Session, _: str) -> Iterator[str]:
    for project, name, _count, _newest in session.catalog.datasets():
        yield f"{project}/{name}"


def _versions(session: Session, incomplete: str) -> Iterator[str]:
    dataset = incomplete.partition("@")[0]
    project, _, name = dataset.rpartition("/")
    versions = session.catalog.versions(project=project, name=name)
    if versions:
        for word in (*sorted(RESERVED_ALIASES), *session.catalog.aliases(project, name)):
            yield f"{dataset}@{word}"
    for version in versions:
        if version.version:
            yield f"{dataset}@{version.version}"
