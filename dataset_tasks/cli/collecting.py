"""Commands that look after what is stored: undelete, gc, repack, repair, and the check of the whole store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import completing
from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import Exit, command
from dataset_tasks.cli.context import Cli, Want, find, label
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.catalog.collect import Root
    from dataset_tasks.model import JsonValue
    from dataset_tasks.ops import requests
    from dataset_tasks.ops.survey import Survey

#: So many files of a version are named in words; `--json` names all.
_SHOWN = 20
PANEL = "Look after the store"

Apply = Annotated[bool, typer.Option("--apply", help="Do it. Without, it is only told what would be done.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "undelete", panel=PANEL)(undelete)
    command(app, "gc", panel=PANEL)(gc)
    command(app, "repack", panel=PANEL)(repack)
    command(app, "repair", panel=PANEL)(repair)


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
    now: Annotated[
        bool, typer.Option("--now", help="Wait for nothing: what is deleted can't come back after.")
    ] = False,
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
    yield from (f"kept, until its grace is over: {shown(each)}" for each in result.kept[:_SHOWN])
    if len(result.kept) > _SHOWN:
        yield f"kept, until their grace is over: {count(len(result.kept) - _SHOWN, 'more version')}"
    freed = f"{size(result.bytes)} in {count(result.deleted, 'object')}"
    left = f" and {count(result.parts, 'part')} that killed writers left" if result.parts else ""
    yield f"{would}freed: {freed}{left}"
    if result.waiting:
        held = f"{size(result.waiting_bytes)} in {count(result.waiting, 'object')} that nothing refers to"
        yield f"{would}waiting: {held}"
    if result.dry_run:
        yield "nothing was changed; do it with --apply"


def repack(
    cli: Cli,
    apply: Apply = False,
    live: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Repack archives of whose bytes at most this share is needed, 0 to 1."),
    ] = 0.5,
) -> int:
    """Copy what is still needed of archives that are mostly dead, so that gc frees them. Only tells, without --apply."""
    from dataset_tasks.ops.requests import Repack, RepackResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, RepackResult)
        would = "would be " if result.dry_run else ""
        lines = [f"{would}moved: {shown(each)}" for each in result.versions]
        lines.append(
            f"{would}repacked: {count(result.chunks, 'archive')}, {size(result.copied)} copied; "
            f"gc frees {size(max(result.bytes, 0))} then"
        )
        return "\n".join([*lines, *(["nothing was changed; do it with --apply"] if result.dry_run else [])])

    def bare(result: requests.Result) -> str:
        assert isinstance(result, RepackResult)
        return str(result.bytes)

    with cli.session() as session:
        return cli.perform(session, Repack(dry_run=not apply, live=live), describe, bare=bare, remember=False)


def repair(
    cli: Cli,
    ref: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REF", help="Versions. Default: all.", show_default=False, autocompletion=completing.references
        ),
    ] = None,
    copies: Annotated[
        list[str] | None,
        typer.Option("--copy", metavar="URL", help="A store with a copy of the objects; repeat.", show_default=False),
    ] = None,
    folders: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="FOLDER", help="Files that may be what is missing; repeat.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is damaged and can be healed.")] = False,
) -> int:
    """Heal damage from copies, other versions, the cache or files of yours; exit code 1 when files are lost."""
    from dataset_tasks.ops.requests import Repair, RepairResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, RepairResult)
        return "\n".join(_repaired(result))

    def bare(result: requests.Result) -> str:
        assert isinstance(result, RepairResult)
        return "\n".join(map(shown, result.lost))

    def is_lost(result: requests.Result) -> bool:
        assert isinstance(result, RepairResult)
        return bool(result.lost)

    with cli.session() as session:
        request = Repair(
            refs=tuple(find(session, each, Want.ONLY).id for each in ref or ()),
            copies=tuple(copies or ()),
            folders=tuple(folders or ()),
            dry_run=dry_run,
        )
        return cli.perform(session, request, describe, bare=bare, failed=is_lost, remember=False)


def _repaired(result: requests.RepairResult) -> Iterator[str]:
    if not result.damaged:
        yield f"all is well: {count(result.objects, 'object')}"
        return
    could = "could be " if result.dry_run else ""
    yield from (f"damaged: {shown(each)}" for each in result.damaged)
    yield from (f"{could}restored: {shown(each)}" for each in result.restored)
    if result.healed or result.versions:
        where = f" in {', '.join(map(shown, result.versions))}" if result.versions else ""
        yield f"{could}packed anew: {count(result.healed, 'file')}{where}"
    yield from (f"lost: {shown(each)}" for each in result.lost)
    yield from (f"quarantined: {shown(each)}" for each in result.quarantined)


# --- the check of the whole store


def check_store(cli: Cli, *, hashed: bool, orphans: bool) -> Exit:
    """Looks at everything that any version refers to; names what is damaged, and the versions and files concerned."""
    import secrets

    from dataset_tasks.ops.context import RANDOM_KEY, Context
    from dataset_tasks.ops.survey import files, survey

    with cli.session() as session, cli.progress() as progress:
        context = Context(session=session, key=f"{RANDOM_KEY}{secrets.token_hex(16)}", progress=progress)
        found = survey(context, session.catalog.roots(), hashed=hashed, orphans=orphans)
        concerned = {each.ref.key: list(files(context, found, each, hashed=hashed)) for each in found.damaged}
    if cli.as_json:
        cli.out.document(_document(found, concerned))
    elif cli.quiet:
        for each in found.damaged:
            cli.out.line(shown(each.ref.key))
    else:
        for line in _checked(found, concerned, hashed=hashed, orphans=orphans):
            cli.out.line(line)
    return Exit.FAILED if found.damaged else Exit.DONE


def _checked(
    found: Survey, concerned: dict[str, list[tuple[Root, bytes, str]]], *, hashed: bool, orphans: bool
) -> Iterator[str]:
    for each in found.damaged:
        yield f"damaged: {shown(each.ref.key)}: {shown(each.what)}"
        for root in each.roots:
            mine = [(path, why) for other, path, why in concerned[each.ref.key] if other.version_id == root.version_id]
            yield f"  {shown(root.label)} ({root.version_id}): {count(len(mine), 'file')} concerned"
            yield from (f"    {_file(path, why)}" for path, why in mine[:_SHOWN])
            if len(mine) > _SHOWN:
                yield f"    and {len(mine) - _SHOWN:,} more"
    for store_id, key, length in found.orphans:
        yield f"orphan: {shown(key)} in store {store_id}: {size(length)}"
    looked = f"{count(len(found.roots), 'version')}, {count(len(found.objects), 'object')}, {size(found.bytes)}"
    how = "every byte read" if hashed else "sizes only; --hash reads every byte"
    said = f"{count(len(found.damaged), 'object')} damaged" if found.damaged else "all is well"
    left = f", {count(len(found.orphans), 'orphan')}" if orphans else ""
    yield f"{said}{left}: {looked} ({how})"
    if found.damaged:
        yield "heal what can be healed with `dataset-tasks repair`"


def _file(path: bytes, why: str) -> str:
    from dataset_tasks.paths import show

    return f"{show(path)}: {shown(why)}" if path else shown(why)


def _document(found: Survey, concerned: dict[str, list[tuple[Root, bytes, str]]]) -> dict[str, JsonValue]:
    from dataset_tasks.paths import to_text

    return {
        "versions": len(found.roots),
        "objects": len(found.objects),
        "bytes": found.bytes,
        "damaged": [
            {
                "object": each.ref.key,
                "store_id": each.ref.store_id,
                "kind": each.kind,
                "what": each.what,
                "versions": [{"id": root.version_id, "version": root.label} for root in each.roots],
                "files": [
                    {"version_id": root.version_id, "path": to_text(path), "why": why}
                    for root, path, why in concerned[each.ref.key]
                ],
            }
            for each in found.damaged
        ],
        "orphans": [{"store_id": store, "object": key, "bytes": length} for store, key, length in found.orphans],
    }
