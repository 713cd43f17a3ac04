"""Commands that look after what is stored: undelete, gc."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli, label
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.ops import requests

PANEL = "Look after the store"

Apply = Annotated[bool, typer.Option("--apply", help="Do it. Without, it is only told what would be done.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "undelete", panel=PANEL)(undelete)
    command(app, "gc", panel=PANEL)(gc)


def undelete(
    cli: Cli,
    ref: Annotated[
        str | None,
        typer.Argument(metavar="REF", help="The version: its id, or project/name@1.0.0.", show_default=False),
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="REF", help="The version, as an option.", show_default=False)
    ] = None,
) -> int:
    """Bring back a version that was deleted, as long as gc has not given up its bytes."""
    from dataset_tasks.ops.requests import Undelete, UndeleteResult

    if ref is not None and id is not None and ref != id:
        raise InvalidArgumentError(f"two versions are named: {ref!r} and --id {id!r}", hint="Name one of them.")
    wanted = ref if ref is not None else id
    if wanted is None:
        raise InvalidArgumentError(
            "which version? undelete takes none by default", hint="Name one: project/name@1.0.0."
        )

    def describe(result: requests.Result) -> str:
        assert isinstance(result, UndeleteResult)
        return f"{label(result)} is {result.state} again {result.version_id}"

    with cli.session() as session:
        return cli.perform(session, Undelete(ref=wanted), describe)


def gc(
    cli: Cli,
    apply: Apply = False,
    now: Annotated[bool, typer.Option("--now", help="Wait for nothing: what is deleted can't come back after.")] = False,
    grace: Annotated[str, typer.Option(metavar="TIME", help="How long a deleted version can be brought back.")] = "7d",
    idle: Annotated[str, typer.Option(metavar="TIME", help="How long an object stays that nothing refers to.")] = "1d",
    drafts: Annotated[
        str, typer.Option(metavar="TIME", help="How long a draft stays that nothing is done to.")
    ] = "30d",
) -> int:
    """Free what nobody needs: deleted versions, dead drafts, what killed calls left. Only tells, without --apply."""
    from dataset_tasks.ops.requests import Collect, CollectResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, CollectResult)
        return "\n".join(_collected(result))

    def bare(result: requests.Result) -> str:
        assert isinstance(result, CollectResult)
        return str(result.bytes)

    request = Collect(
        dry_run=not apply,
        now=now,
        grace=opt.seconds(grace, "--grace"),
        idle=opt.seconds(idle, "--idle"),
        drafts=opt.seconds(drafts, "--drafts"),
    )
    with cli.session() as session:
        return cli.perform(session, request, describe, bare=bare, remember=False)


def _collected(result: requests.CollectResult) -> Iterator[str]:
    would = "would be " if result.dry_run else ""
    for what, labels in (("retired", result.retired), ("dropped", result.dropped), ("given up", result.purged)):
        yield from (f"{would}{what}: {shown(each)}" for each in labels)
    freed = f"{size(result.bytes)} in {count(result.deleted, 'object')}"
    left = f" and {count(result.parts, 'part')} that killed writers left" if result.parts else ""
    yield f"{would}freed: {freed}{left}"
    if result.waiting:
        held = f"{size(result.waiting_bytes)} in {count(result.waiting, 'object')} that nothing refers to"
        yield f"{would}waiting: {held}"
    if result.dry_run:
        yield "nothing was changed; do it with --apply"
