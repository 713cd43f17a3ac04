"""Commands for what may change on a final version too: tag, alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from dataset_tasks.cli import completing
from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import Exit, Group, command
from dataset_tasks.cli.context import Cli, Want
from dataset_tasks.cli.output import shown
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Reference, Version

PANEL = "Name and tag"

Labels = Annotated[list[str], typer.Argument(metavar="TAG", help="One or several.")]
Dataset = Annotated[
    str, typer.Argument(metavar="PROJECT/NAME", help="The dataset.", autocompletion=completing.datasets)
]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="A name such as prod.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    tag = typer.Typer(cls=Group, help="Add tags to a version, or remove them.")
    command(tag, "add", panel=PANEL)(tag_add)
    command(tag, "remove", panel=PANEL)(tag_remove)
    app.add_typer(tag, name="tag", rich_help_panel=PANEL)
    alias = typer.Typer(cls=Group, help="Names that point at one version of a dataset, and can be moved back.")
    command(alias, "set", panel=PANEL)(alias_set)
    command(alias, "list", panel=PANEL)(alias_list)
    command(alias, "rollback", panel=PANEL)(alias_rollback)
    app.add_typer(alias, name="alias", rich_help_panel=PANEL)


# --- tags ------------------------------------------------------------------------------------------------------------


def tag_add(cli: Cli, tag: Labels, id: opt.Id = None) -> Exit:
    """Add tags to a version."""
    return _retag(cli, id, lambda held: [*held, *(each for each in dict.fromkeys(tag) if each not in held)])


def tag_remove(cli: Cli, tag: Labels, id: opt.Id = None) -> Exit:
    """Remove tags from a version."""
    return _retag(cli, id, lambda held: [each for each in held if each not in tag])


def _retag(cli: Cli, given_id: str | None, change: Callable[[tuple[str, ...]], list[str]]) -> Exit:
    with cli.session() as session:
        before = cli.version(session, None, given_id, Want.PUBLISHED)
        cli.remember(session, before.id)
        unchanged = change(before.tags) == list(before.tags)
        after = before if unchanged else session.change(before.id, lambda now: {"tags": change(now.tags)})
        if cli.as_json:
            cli.out.document({"version_id": after.id, "tags": list(after.tags), "unchanged": unchanged})
        elif cli.quiet:
            cli.out.line(after.id)
        else:
            cli.out.line(f"{shown(after.label)}: {shown(', '.join(after.tags)) or 'no tags'}")
        return Exit.NOTHING_TO_DO if unchanged else Exit.DONE


# --- aliases ---------------------------------------------------------------------------------------------------------


def alias_set(cli: Cli, alias: Alias, ref: opt.Ref = None, id: opt.Id = None) -> Exit:
    """Point an alias at a version."""
    with cli.session() as session:
        version = cli.version(session, ref, id, Want.PUBLISHED)
        cli.remember(session, version.id)
        before = session.catalog.aliases(version.project, version.name).get(alias)
        if before != version.id:
            session.set_alias(version, alias)
        return _moved(cli, version, alias, before)


def alias_rollback(cli: Cli, dataset: Dataset, alias: Alias) -> Exit:
    """Point an alias at the version it named before."""
    from dataset_tasks.dataset import Dataset as Handle

    project, name = _named(dataset)
    with cli.session() as session:
        before = session.catalog.resolve(f"{project}/{name}@{alias}")
        back = Handle(before.id, session=session).rollback_alias(alias)
        return _moved(cli, session.catalog.version(back), alias, before.id)


def _moved(cli: Cli, version: Version, alias: str, before: str | None) -> Exit:
    unchanged = before == version.id
    if cli.as_json:
        cli.out.document({"alias": alias, "version_id": version.id, "before": before, "unchanged": unchanged})
    elif cli.quiet:
        cli.out.line(version.id)
    else:
        came = f" (before: {before})" if before and not unchanged else ""
        cli.out.line(f"{shown(version.dataset)}@{shown(alias)} is {shown(version.version)} {version.id}{came}")
    return Exit.NOTHING_TO_DO if unchanged else Exit.DONE


def alias_list(
    cli: Cli,
    dataset: Dataset,
    history: Annotated[bool, typer.Option("--history", help="Every move, oldest first.")] = False,
) -> None:
    """List the aliases of a dataset and what they point at."""
    project, name = _named(dataset)
    with cli.session() as session:
        session.catalog.require(project, name)
        moves = session.catalog.alias_history(project, name)
        if not history:
            moves = list({alias: (alias, version_id, when) for alias, version_id, when in moves}.values())
        labels = {v.id: v.version for v in session.catalog.versions(project=project, name=name)}
        if cli.as_json:
            cli.out.document(
                {
                    "aliases": [
                        {"alias": alias, "version_id": held, "version": labels.get(held), "since": when.isoformat()}
                        for alias, held, when in moves
                    ]
                }
            )
        elif cli.quiet:
            for alias, held, _ in moves:
                cli.out.line(f"{shown(alias)} {held}")
        elif moves:
            from rich.text import Text

            from dataset_tasks.cli.fitting import fitting
            from dataset_tasks.cli.words import moment

            rows = [
                (Text(shown(alias)), Text(shown(labels.get(held, "deleted"))), moment(when), held)
                for alias, held, when in moves
            ]
            heads = ("alias", "version", "since (UTC)", "id")
            made = fitting(cli.out.console.width, heads, rows, always=heads[:2], then=("id", "since (UTC)"))
            cli.out.show_fitted(made)
        else:
            cli.out.note("no alias")


def _named(dataset: str) -> tuple[str, str]:
    wanted = Reference.parse(dataset)
    if wanted.id is not None or "@" in dataset:
        raise InvalidArgumentError(f"{dataset!r} is not a dataset", hint="Write project/name.")
    return wanted.project, wanted.name
