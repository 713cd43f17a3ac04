"""Commands that read the catalog: list, ls, diff, log, lineage, catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import completing
from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli, Want
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Reference, State, Version

if TYPE_CHECKING:
    from dataset_tasks.cli.describe import Edge
    from dataset_tasks.session import Session

PANEL = "Look"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "list", panel=PANEL)(list_)
    command(app, "log", panel=PANEL)(log)
    command(app, "lineage", panel=PANEL)(lineage)


def list_(
    cli: Cli,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="PROJECT/NAME",
            help="The versions of this dataset.",
            show_default=False,
            autocompletion=completing.datasets,
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="Only in this project.", show_default=False)
    ] = None,
    partial_name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Only names that hold this text.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", "-t", metavar="TAG", help="Only with this tag; repeat.", show_default=False),
    ] = None,
    state: Annotated[
        list[State] | None,
        typer.Option("--state", metavar="STATE", help="Only in this state; repeat.", show_default=False),
    ] = None,
    versions: Annotated[
        bool, typer.Option("--versions", "-v", help="A line for each version, not each dataset.")
    ] = False,
) -> None:
    """List datasets, or the versions of one."""
    name = None
    if dataset is not None:
        project, name = opt.dataset_name(dataset, project)
        if project is None:
            raise InvalidArgumentError(f"{dataset!r} has no project", hint="Write project/name, or --name TEXT.")
    if not cli.has_catalog() and project is None:
        _show_datasets(cli, [])
        return
    with cli.session() as session:
        if project is not None:
            session.catalog.require(project, name)
        found = session.catalog.versions(
            project=project, name=name, partial_name=partial_name, tags=tuple(tag or ()), states=state or None
        )
        if name is not None or versions or tag or state:
            _show_versions(cli, session, found)
        else:
            _show_datasets(cli, found)


def _show_versions(cli: Cli, session: Session, found: list[Version]) -> None:
    if cli.quiet and not cli.as_json:
        for version in found:
            cli.out.line(version.id)
        return
    from dataset_tasks.cli.describe import version_document, versions_table

    aliases: dict[str, list[str]] = {}
    for project, name in dict.fromkeys((v.project, v.name) for v in found):
        for alias, version_id in session.catalog.aliases(project, name).items():
            aliases.setdefault(version_id, []).append(alias)
    if cli.as_json:
        documents = ({**version_document(v), "aliases": list(aliases.get(v.id, ()))} for v in found)
        cli.out.document({"catalog_id": session.catalog.id, "versions": list(documents)})
    elif found:
        cli.out.show_fitted(versions_table(found, aliases, cli.out.console.width))
    else:
        cli.out.note("no version")


def _show_datasets(cli: Cli, found: list[Version]) -> None:
    if cli.quiet and not cli.as_json:
        for dataset in sorted({v.dataset for v in found}):
            cli.out.line(shown(dataset))
        return
    from dataset_tasks.cli.describe import datasets, datasets_table

    summaries = datasets(found)
    if cli.as_json:
        cli.out.document({"datasets": [each.document() for each in summaries]})
    elif summaries:
        cli.out.show_fitted(datasets_table(summaries, cli.out.console.width))
    else:
        cli.out.note("no dataset yet; make one with `dataset-tasks create PROJECT/NAME`")


def log(
    cli: Cli,
    ref: Annotated[
        str | None,
        typer.Argument(
            metavar="REF",
            help="A version, or all of a dataset as `project/name`. Default: the dataset of the last one used.",
            show_default=False,
            autocompletion=completing.references,
        ),
    ] = None,
    id: opt.Id = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many versions.")] = 20,
) -> None:
    """Show the history of a dataset or version, newest first: who made it, from what, what happened to it."""
    with cli.session() as session:
        found = _history_of(cli, session, ref, id)
        versions = found[::-1][:limit]
        events = {v.id: session.catalog.events(version_id=v.id) for v in versions}
        if cli.quiet and not cli.as_json:
            for version in versions:
                cli.out.line(version.id)
            return
        from dataset_tasks.cli.describe import event_document, history, read_document, report_document, version_document

        reports = {v.id: session.catalog.reports(v.id) for v in versions}
        reads = {v.id: session.catalog.reads(v.id) for v in versions}

        if cli.as_json:
            documents = [
                {
                    **version_document(v),
                    "events": [event_document(each) for each in events[v.id]],
                    "reports": [report_document(each) for each in reports[v.id]],
                    "reads": [read_document(each) for each in reads[v.id]],
                }
                for v in versions
            ]
            cli.out.document({"catalog_id": session.catalog.id, "versions": documents})
            return
        wanted = {i for v in versions for i in (*v.parents, *(i.ref for i in v.inputs))}
        names = {v.id: v.label for v in session.catalog.versions(ids=wanted, states=list(State))}
        for number, version in enumerate(versions):
            if number:
                cli.out.line()
            cli.out.show(*history(version, events[version.id], names, reports[version.id], reads[version.id]))
        if len(found) > limit:
            cli.out.note(
                f"\n{count(len(found) - limit, 'older version')} not shown; see them with --limit {len(found)}"
            )


def _history_of(cli: Cli, session: Session, ref: str | None, given_id: str | None) -> list[Version]:
    """By creation: the one version that is named, or all of the dataset."""
    if ref is not None and given_id is None:
        wanted = Reference.parse(ref)
        if wanted.id is None and "@" not in ref:
            found = session.catalog.versions(project=wanted.project, name=wanted.name, states=list(State))
            return found or [session.catalog.resolve(ref)]  # which says that there is none
    version = cli.version(session, ref, given_id, Want.PUBLISHED)
    if ref is not None or given_id is not None:
        return [version]
    return session.catalog.versions(project=version.project, name=version.name, states=list(State))


def lineage(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    up: Annotated[bool, typer.Option("--up", help="Only what it was made from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made from it.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Follow earlier and later versions of one dataset, too.")
    ] = False,
) -> None:
    """Show what a version was made from and what was made from it, as trees."""
    from dataset_tasks.cli.describe import Branches, version_document

    with cli.session() as session:
        version = cli.version(session, ref, id, Want.PUBLISHED)
        both = up == down
        above = _up(session, version, history=history) if up or both else None
        below = _down(session, version, history=history) if down or both else None
        if cli.as_json:
            versions = {**(above[0] if above else {}), **(below[0] if below else {})}
            edges = [e for part in (above, below) if part for edges in part[1].values() for e in edges]
            cli.out.document(
                {
                    "version_id": version.id,
                    "versions": [version_document(v) for v in versions.values()],
                    "edges": [e.document() for e in dict.fromkeys(edges)],
                }
            )
            return
        if cli.quiet:
            for part in (above, below):
                for version_id in part[0] if part else ():
                    if version_id != version.id:
                        cli.out.line(version_id)
            return
        for part, some, none in ((above, "made from", "made from nothing"), (below, "used by", "used by nothing")):
            if part is not None:
                anything = bool(part[1].get(version.id))
                cli.out.line(f"{shown(version.label)} is {some if anything else none}")
                if anything:
                    cli.out.show(Branches(*part, down=part is below).tree(version.id))


Graph = tuple[dict[str, Version], dict[str, list["Edge"]]]


def _up(session: Session, version: Version, *, history: bool) -> Graph:
    """What the version comes from, and the edges by child."""
    from dataset_tasks.cli.describe import edges_of

    known = session.catalog.ancestors(version.id)
    reached: dict[str, Version] = {version.id: version}
    edges: dict[str, list[Edge]] = {}
    waiting = [version]
    while waiting:
        child = waiting.pop()
        edges[child.id] = edges_of(child)
        for edge in edges[child.id]:
            if edge.parent not in known:  # what was squashed is told by the version alone
                known |= session.catalog.ancestors(edge.parent)
            if edge.parent not in reached:
                reached[edge.parent] = known[edge.parent]
                if history or known[edge.parent].dataset != child.dataset:
                    waiting.append(known[edge.parent])
    return reached, edges


def _down(session: Session, version: Version, *, history: bool) -> Graph:
    """What was made from the version, and the edges by parent."""
    from dataset_tasks.cli.describe import edges_of

    reached: dict[str, Version] = {version.id: version}
    edges: dict[str, list[Edge]] = {}
    waiting = [version]
    while waiting:
        parent = waiting.pop()
        edges[parent.id] = []
        children = [*session.catalog.children(parent.id), *session.catalog.squashes(parent.id)]
        for child in {each.id: each for each in children}.values():
            edges[parent.id] += [e for e in edges_of(child) if e.parent == parent.id]
            if child.id not in reached:
                reached[child.id] = child
                if history or parent.dataset != child.dataset:
                    waiting.append(child)
    return reached, edges
