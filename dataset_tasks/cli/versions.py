"""Commands on whole versions: build, publish, squash, verify, get, delete."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import completing
from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli, Want, find, label
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.ops import requests

PANEL = "Whole versions"


SyncFrom = Annotated[
    str | None,
    typer.Option(
        "--sync",
        metavar="FOLDER",
        help="Mirror this folder or URL (s3://, gs://, azure://); starts from the last version.",
        show_default=False,
    ),
]
AddFrom = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="PATH", help="Add a file, folder or URL; repeat.", show_default=False),
]
RemoveLast = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="PATTERN", help="Remove what matches, last; repeat.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "build", panel=PANEL)(build)
    command(app, "publish", panel=PANEL)(publish)
    command(app, "squash", panel=PANEL)(squash)
    command(app, "verify", panel=PANEL)(verify)
    command(app, "get", panel=PANEL)(get)
    command(app, "delete", panel=PANEL)(delete)


def build(
    cli: Cli,
    name: opt.Name,
    project: opt.Project = None,
    parent: opt.Parents = None,
    input: opt.Inputs = None,
    previous: opt.Previous = False,
    sync: SyncFrom = None,
    add: AddFrom = None,
    wildcard: opt.Wildcards = None,
    exclude: opt.Excludes = None,
    connection: opt.Connection = None,
    call: opt.Call = None,
    run: opt.Program = None,
    arguments: opt.Arguments = None,
    remove: RemoveLast = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read it back from the store at the end.")] = False,
    tag: opt.Tags = None,
    description: opt.Description = "",
    meta: opt.Metadata = None,
    partition: opt.Partition = None,
    always: Annotated[bool, typer.Option("--always", help="Make a version though nothing changed.")] = False,
) -> int:
    """Make the next version of a dataset in one go: create, fill, upload, finalize; nothing when nothing changed."""
    from dataset_tasks.ops.requests import Build, BuildResult, Create, Request, Stage

    in_project, bare_name = opt.dataset_name(name, project)
    create = Create(
        name=bare_name,
        project=in_project,
        parents=tuple(parent or ()),
        inputs=opt.inputs(input),
        previous=previous or sync is not None,
        tags=tuple(tag or ()),
        description=description,
        metadata=opt.pairs(meta, "--meta"),
        partition=partition,
        skip_unchanged=not always,
    )

    def stages() -> Iterator[tuple[str, Request]]:
        from dataset_tasks.ops.requests import Finalize, RemoveFiles, Transform, Upload, Verify

        draft = f"step:{bare_name}.create"
        yield "create", create
        yield from _sources(draft, sync, add or [], wildcard or [], exclude or [], connection)
        if call is not None or run is not None:
            program = tuple(shlex.split(run)) if run is not None else None
            given = opt.pairs(arguments, "--with")
            yield "transform", Transform(ref=draft, call=call, run=program, arguments=given, folder=os.getcwd())
        if remove:
            yield "remove", RemoveFiles(ref=draft, patterns=tuple(remove))
        yield "upload", Upload(ref=draft)
        yield "finalize", Finalize(ref=draft)
        if verify:
            yield "verify", Verify(ref=draft, quarantine=True)

    def describe(result: requests.Result) -> str:
        assert isinstance(result, BuildResult)
        changes = f"{result.added:,} added, {result.modified:,} modified, {result.removed:,} removed"
        holds = f"{count(result.files, 'file')}, {size(result.bytes)}, {size(result.new_bytes)} new in the store"
        notes = "".join(f"\n  note: {shown(note)}" for note in result.notes)
        return f"made {label(result)} {result.version_id}: {changes}; {holds}{notes}"

    request = Build(stages=tuple(Stage(id=f"{bare_name}.{step}", request=each) for step, each in stages()))
    with cli.session(create=True) as session:
        return cli.perform(session, request, describe)


def _sources(
    draft: str, sync: str | None, add: list[str], wildcard: list[str], exclude: list[str], connection: str | None
) -> Iterator[tuple[str, requests.Request]]:
    """What a build reads; each of them through the same patterns and connection."""
    from dataset_tasks.ops.requests import AddFiles, SyncFolder

    if (wildcard or exclude or connection) and not (add or sync is not None):
        raise InvalidArgumentError(
            "--wildcard, --exclude and --connection say how --sync and --add read, and neither is there",
            hint="Give --sync or --add, or leave them out.",
        )
    some, but = tuple(wildcard) or None, tuple(exclude)
    if sync is not None:
        yield "sync", SyncFolder(ref=draft, path=sync, wildcard=some, exclude=but, connection=connection)
    for number, path in enumerate(add):
        yield f"add.{number}", AddFiles(ref=draft, path=path, wildcard=some, exclude=but, connection=connection)


def publish(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    alias: Annotated[
        str | None, typer.Option(metavar="NAME", help="Point this alias at it, such as prod.", show_default=False)
    ] = None,
) -> int:
    """Publish a final version: what references without `@` read from then on."""
    from dataset_tasks.ops.requests import Publish, PublishResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, PublishResult)
        also = f" as {shown(result.alias)}" if result.alias else ""
        return f"published {label(result)}{also} {result.version_id}"

    with cli.session() as session:
        return cli.perform(session, Publish(ref=cli.version(session, ref, id, Want.LATEST).id, alias=alias), describe)


def squash(
    cli: Cli,
    name: opt.Name,
    ref: Annotated[
        list[str],
        typer.Argument(metavar="REF", help="The versions, oldest first.", autocompletion=completing.references),
    ],
    project: opt.Project = None,
    output_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The store of the new version.", show_default=False)
    ] = None,
    tag: opt.Tags = None,
    description: opt.Description = "",
    meta: opt.Metadata = None,
) -> int:
    """Make one standalone version from one or several."""
    from dataset_tasks.ops.requests import Squash, SquashResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, SquashResult)
        holds = f"{count(result.files, 'file')}, {size(result.bytes)}, {size(result.new_bytes)} new in the store"
        return f"squashed into {label(result)} {result.version_id}: {holds}"

    in_project, bare_name = opt.dataset_name(name, project)
    with cli.session() as session:
        request = Squash(
            name=bare_name,
            project=in_project,
            refs=tuple(find(session, each, Want.PUBLISHED).id for each in ref),
            store=output_url,
            tags=tuple(tag or ()),
            description=description,
            metadata=opt.pairs(meta, "--meta"),
        )
        return cli.perform(session, request, describe)


def verify(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    path: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Check this copy instead of the store.", show_default=False),
    ] = None,
    skip_hash: Annotated[bool, typer.Option("--skip-hash", help="Compare sizes only.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Mark a version that fails: latest and published pass over it.")
    ] = False,
) -> int:
    """Read a version back and compare every file with what was acknowledged; exit code 1 when one differs."""
    from dataset_tasks.ops.requests import Verify, VerifyResult

    def bad(result: requests.Result) -> bool:
        assert isinstance(result, VerifyResult)
        return bool(result.bad)

    def describe(result: requests.Result) -> str:
        assert isinstance(result, VerifyResult)
        looked = f"{count(result.files, 'file')}, {size(result.bytes)}"
        if not result.bad:
            return f"{label(result)}: all is well: {looked}"
        return "\n".join(
            [
                f"{label(result)}: {count(len(result.bad), 'path')} of {looked} differ:",
                *(f"  {shown(p)}" for p in result.bad),
            ]
        )

    def bare(result: requests.Result) -> str:
        assert isinstance(result, VerifyResult)
        return "\n".join(shown(path) for path in result.bad)

    with cli.session() as session:
        request = Verify(
            ref=cli.version(session, ref, id, Want.PUBLISHED).id,
            path=path,
            mode="size" if skip_hash else "hash",
            quarantine=quarantine,
        )
        return cli.perform(session, request, describe, bare=bare, failed=bad, remember=False)


def get(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FOLDER", help="Write a copy of your own here. Default: the cache.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --to.")] = False,
    soft_links: Annotated[
        bool | None,
        typer.Option(help="A tree of soft links, or none. Default: what is cheapest.", show_default=False),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option("--files", "-f", metavar="PATTERN", help="Only these; repeat.", show_default=False),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="One of N parts of like size, from 0.", show_default=False)
    ] = None,
    max_workers: opt.Workers = None,
) -> int:
    """Give a folder with a version's files: a shared read-only one, or your own with --to."""
    from dataset_tasks.ops.requests import GetCopy, GetCopyResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, GetCopyResult)
        cli.out.note(f"{label(result)}: {count(result.files, 'file')}, {size(result.bytes)}")
        return shown(result.folder)

    def bare(result: requests.Result) -> str:
        assert isinstance(result, GetCopyResult)
        return shown(result.folder)

    which, of = _part(part)
    with cli.session() as session:
        request = GetCopy(
            ref=cli.version(session, ref, id, Want.PUBLISHED).id,
            target=target,
            overwrite=overwrite,
            soft_links=soft_links,
            files=tuple(files or ()),
            part=which,
            num_parts=of,
            max_workers=max_workers,
        )
        return cli.perform(session, request, describe, bare=bare, remember=False)


def _part(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    which, slash, of = text.partition("/")
    if slash and which.isdecimal() and of.isdecimal() and int(which) < int(of):
        return int(which), int(of)
    raise InvalidArgumentError(
        f"--part {text!r} is not I/N with I below N", hint="Write --part 0/4 for the first of four."
    )


def delete(
    cli: Cli,
    ref: Annotated[
        str | None,
        typer.Argument(metavar="REF", help="The version.", show_default=False, autocompletion=completing.references),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="REF",
            help="The version, as an option.",
            show_default=False,
            autocompletion=completing.references,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Though other versions were made from it; they keep theirs.")
    ] = False,
) -> int:
    """Drop a draft or end a final version; the last one used is never taken, name it."""
    from dataset_tasks.ops.requests import Delete, DeleteResult

    if ref is None and id is None:
        raise InvalidArgumentError("which version? delete takes none by default", hint="Name one: project/name@1.0.0.")

    def describe(result: requests.Result) -> str:
        assert isinstance(result, DeleteResult)
        return f"{'dropped the draft' if result.state == 'aborted' else 'deleted'} {label(result)} {result.version_id}"

    with cli.session() as session:
        request = Delete(ref=cli.version(session, ref, id, Want.ONLY).id, force=force)
        return cli.perform(session, request, describe, remember=False)
