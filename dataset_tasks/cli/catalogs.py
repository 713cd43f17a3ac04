"""Commands on the catalog itself: init, show, upgrade, check, rebuild, move-store; and copy, from one to another."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import Exit, Group, command
from dataset_tasks.cli.context import Cli, Want, label
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.settings import Settings

if TYPE_CHECKING:
    from dataset_tasks.ops.requests import Result

PANEL = "Keep in order"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    catalog = typer.Typer(
        cls=Group, help="Make a catalog, show where it is, check it, bring it up to date or back from the journal."
    )
    command(catalog, "init", panel=PANEL)(init)
    command(catalog, "show", panel=PANEL)(show)
    command(catalog, "upgrade", panel=PANEL)(upgrade)
    command(catalog, "check", panel=PANEL)(check)
    command(catalog, "rebuild", panel=PANEL)(rebuild)
    command(catalog, "move-store", panel=PANEL)(move_store)
    app.add_typer(catalog, name="catalog", rich_help_panel=PANEL)
    command(app, "copy", panel=PANEL)(copy)


def init(cli: Cli) -> Exit:
    """Make a catalog where there is none yet; one that is there stays as it is."""
    return _show(cli, create=True)


def show(cli: Cli) -> Exit:
    """Show where catalog, store and cache are."""
    return _show(cli, create=False)


def _show(cli: Cli, *, create: bool) -> Exit:
    with cli.session(create=create) as session:
        catalog = session.catalog
        facts = {
            "catalog_id": catalog.id,
            "catalog": catalog.db.shown,
            "store": session.settings.store_url,
            "cache": str(session.settings.cache_dir),
        }
        if cli.as_json:
            cli.out.document({**facts, "stores": catalog.stores()})
        elif cli.quiet:
            cli.out.line(catalog.id)
        else:
            for what, value in facts.items():
                cli.out.line(f"{what:11} {shown(value)}")
    return Exit.DONE


def upgrade(cli: Cli) -> Exit:
    """Bring a catalog of an older release to the schema of this one; an SQLite file is copied before."""
    from dataset_tasks.catalog.engine import Database, is_missing_file
    from dataset_tasks.catalog.upgrade import no_catalog, upgrade_database

    cli.require_catalog()
    url = _settings(cli).catalog_url
    if is_missing_file(url):
        raise no_catalog(url)
    database = Database(url)
    done = upgrade_database(database)
    unchanged = done.before == done.after
    copy = str(done.copy) if done.copy is not None else None
    if cli.as_json:
        cli.out.document({"before": done.before, "after": done.after, "copy": copy, "unchanged": unchanged})
    elif cli.quiet:
        cli.out.line(str(done.after))
    elif unchanged:
        cli.out.line(f"unchanged: {shown(database.shown)} has schema {done.after} already")
    else:
        kept = f"; as it was: {shown(copy)}" if copy else ""
        cli.out.line(f"upgraded {shown(database.shown)} from schema {done.before} to {done.after}{kept}")
    database.close()
    return Exit.NOTHING_TO_DO if unchanged else Exit.DONE


def check(cli: Cli) -> Exit:
    """Look whether the catalog is whole in itself; exit code 1 when something is wrong. Reads no store."""
    from dataset_tasks.catalog.checks import CHECKS, check_catalog

    with cli.session() as session:
        found = check_catalog(session.catalog.db)
        if cli.as_json:
            findings = [{**asdict(each), "ids": list(each.ids)} for each in found]
            cli.out.document(
                {"catalog_id": session.catalog.id, "checks": list(CHECKS), "ok": not found, "findings": findings}
            )
        elif cli.quiet:
            for each in found:
                cli.out.line(shown(each.check))
        elif not found:
            cli.out.line(f"{shown(session.catalog.db.shown)}: all is well: {', '.join(CHECKS)}")
        else:
            for each in found:
                more = f" and {each.count - len(each.ids):,} more" if each.count > len(each.ids) > 0 else ""
                named = f": {', '.join(map(shown, each.ids))}{more}" if each.ids else ""
                cli.out.line(f"{each.check}: {shown(each.message)}{named}")
            cli.out.failure(
                f"{count(len(found), 'thing')} wrong in {shown(session.catalog.db.shown)}",
                "Restore the catalog from a copy, or make it anew from the stores: `dataset-tasks catalog rebuild`.",
            )
    return Exit.FAILED if found else Exit.DONE


def rebuild(
    cli: Cli,
    stores: Annotated[
        list[str] | None,
        typer.Argument(metavar="STORE", help="The stores of the catalog. Default: --store.", show_default=False),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The catalog, where stores hold several.", show_default=False),
    ] = None,
) -> Exit:
    """Make a catalog from the journals of its stores alone, or bring back what one lacks; exit 1 when not all came back.

    All final versions come back with names, tags, aliases, lineage, reports and tombstones. Drafts and the records of
    operations are not in a journal.
    """
    from dataset_tasks.rebuild import find_journals
    from dataset_tasks.rebuild import rebuild as run
    from dataset_tasks.session import place_of, utc_now
    from dataset_tasks.store.opened import OpenStores

    settings = _settings(cli)
    places = [place_of(each) for each in stores or [settings.store_url]]
    with cli.progress() as progress:
        opener = OpenStores(home=settings.home)
        journals = find_journals(places, opener, id)
        done = run(settings.catalog_url, journals, open_store=opener, clock=utc_now, progress=progress)
    unchanged = not done.applied and not done.objects
    if cli.as_json:
        cli.out.document({**asdict(done), "problems": list(done.problems), "unchanged": unchanged})
    elif cli.quiet:
        cli.out.line(done.catalog_id)
    else:
        what = "made" if done.is_new else "unchanged:" if unchanged else "completed"
        cli.out.line(
            f"{what} catalog {done.catalog_id}: {count(done.applied, 'event')} of {done.events:,} applied, "
            f"{count(done.versions, 'final version')}, {count(done.objects, 'object')} registered"
        )
        for each in done.problems:
            cli.out.line(f"  {shown(each)}")
    if done.problems:
        cli.out.failure(
            f"{count(len(done.problems), 'thing')} could not be brought back as it was",
            "Give every store that the catalog had; `dataset-tasks check` shows which versions are damaged.",
        )
        return Exit.FAILED
    return Exit.NOTHING_TO_DO if unchanged else Exit.DONE


def move_store(
    cli: Cli,
    which: Annotated[str, typer.Argument(metavar="FROM", help="The store: its id, or its URL.")],
    place: Annotated[str, typer.Argument(metavar="TO", help="The URL or folder of its new place.")],
    no_copy: Annotated[
        bool,
        typer.Option("--no-copy", help="The bytes are there already: only verify them and point the catalog there."),
    ] = False,
) -> Exit:
    """Move a store: copy every object of this catalog, verify it, then point the catalog at the new place."""
    from dataset_tasks.moving import move_store as run
    from dataset_tasks.session import place_of
    from dataset_tasks.store import open_store

    with cli.session() as session:
        stores = session.catalog.stores()
        with cli.progress() as progress:
            done = run(
                session.catalog,
                which if which in stores else place_of(which),
                place_of(place),
                open_store=partial(open_store, home=session.settings.home),
                copy=not no_copy,
                progress=progress,
            )
    if cli.as_json:
        cli.out.document(asdict(done))
    elif cli.quiet:
        cli.out.line(shown(done.new_url))
    else:
        cli.out.line(
            f"moved {shown(done.old_url)} to {shown(done.new_url)}: {count(done.objects, 'object')} verified, "
            f"{done.copied:,} copied, {size(done.bytes)}"
        )
        cli.out.note("The old place is as it was: remove it when nothing writes there any more.")
    return Exit.DONE


def copy(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    to_catalog: Annotated[
        str | None,
        typer.Option("--to-catalog", metavar="URL", help="Another catalog, made if missing.", show_default=False),
    ] = None,
    to_store: Annotated[
        str | None, typer.Option("--to-store", metavar="URL", help="Where its bytes come to.", show_default=False)
    ] = None,
    lineage: Annotated[
        bool, typer.Option(help="Copy what it was made from, too; else only what there is to know about that.")
    ] = True,
) -> int:
    """Copy a final version with its lineage into another catalog, or move it to another store; every byte is verified."""
    from dataset_tasks.ops.requests import Copy, CopyResult
    from dataset_tasks.session import place_of

    def describe(result: Result) -> str:
        assert isinstance(result, CopyResult)
        what = f"{count(result.versions, 'version')}, {count(result.objects, 'object')}, {size(result.bytes)}"
        what += f", {count(result.reports, 'report')}" if result.reports else ""
        return f"copied {label(result)} {result.version_id}: {what}"

    with cli.session() as session:
        version = cli.version(session, ref, id, Want.PUBLISHED)
        place = to_store if to_store is None else place_of(to_store)
        request = Copy(ref=version.id, to_catalog=to_catalog, to_store=place, lineage=lineage)
        return cli.perform(session, request, describe, remember=False)


def _settings(cli: Cli) -> Settings:
    return Settings.from_env(home=cli.home, catalog_url=cli.catalog, store_url=cli.store)
