"""Commands that make and fill a draft: create, add, external, sync, remove, transform, check, upload, finalize."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli, Want, label
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.ops import requests

PANEL = "Make and fill a draft"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "create", panel=PANEL)(create)
    command(app, "add", panel=PANEL)(add)
    command(app, "external", panel=PANEL)(external)
    command(app, "sync", panel=PANEL)(sync)
    command(app, "remove", panel=PANEL)(remove)
    command(app, "transform", panel=PANEL)(transform)
    command(app, "check", panel=PANEL)(check)
    command(app, "upload", panel=PANEL)(upload)
    command(app, "finalize", "close", panel=PANEL)(finalize)


def create(
    cli: Cli,
    name: opt.Name,
    project: opt.Project = None,
    parent: opt.Parents = None,
    input: opt.Inputs = None,
    previous: opt.Previous = False,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="X.Y.Z", help="Its number. Default: the next one.", show_default=False),
    ] = None,
    tag: opt.Tags = None,
    description: opt.Description = "",
    meta: opt.Metadata = None,
    partition: opt.Partition = None,
) -> int:
    """Make a draft: the next version of a dataset, open for changes."""
    from dataset_tasks.ops.requests import Create

    in_project, bare_name = opt.dataset_name(name, project)
    request = Create(
        name=bare_name,
        project=in_project,
        parents=tuple(parent or ()),
        inputs=opt.inputs(input),
        previous=previous,
        version=version,
        tags=tuple(tag or ()),
        description=description,
        metadata=opt.pairs(meta, "--meta"),
        partition=partition,
    )
    with cli.session(create=True) as session:
        return cli.perform(session, request, lambda r: f"created {label(r)} {r.version_id}")


def add(
    cli: Cli,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A file, a folder, or a URL to import: s3://, gs://, azure://.")
    ],
    id: opt.Id = None,
    wildcard: opt.Wildcards = None,
    exclude: opt.Excludes = None,
    local_base_folder: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Paths in the dataset are relative to it. Default: PATH.", show_default=False
        ),
    ] = None,
    dataset_path: opt.DatasetPath = None,
    recursive: Annotated[bool, typer.Option(help="Whether wildcards match at any depth.")] = True,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Leave unreadable files out and record them.")
    ] = False,
    max_workers: opt.Workers = None,
    connection: opt.Connection = None,
) -> int:
    """Add a file or folder to a draft; its bytes are stored by `upload`."""
    from dataset_tasks.ops.requests import AddFiles, AddFilesResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, AddFilesResult)
        left_out = "".join(f"\n  left out: {shown(path)}" for path in result.skipped)
        return f"{label(result)}: {result.added:,} added, {result.modified:,} modified{left_out}"

    with cli.session() as session:
        request = AddFiles(
            ref=cli.version(session, None, id, Want.DRAFT).id,
            path=path,
            wildcard=tuple(wildcard) if wildcard else None,
            exclude=tuple(exclude or ()),
            local_base_folder=local_base_folder,
            dataset_path=dataset_path,
            recursive=recursive,
            on_error="skip" if skip_errors else "raise",
            max_workers=max_workers,
            connection=connection,
        )
        return cli.perform(session, request, describe)


def external(
    cli: Cli,
    urls: Annotated[
        list[str],
        typer.Argument(metavar="URL", help="file://, s3://, gs://, azure:// or http(s):// URLs of files or folders."),
    ],
    id: opt.Id = None,
    wildcard: opt.Wildcards = None,
    dataset_path: opt.DatasetPath = None,
    recursive: Annotated[bool, typer.Option(help="Whether wildcards match at any depth.")] = True,
    connection: opt.Connection = None,
) -> int:
    """Add links to a draft: files that stay where they are, pinned as they are now."""
    from dataset_tasks.ops.requests import AddExternal, AddExternalResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, AddExternalResult)
        linked = f"{count(result.files, 'link')}, {size(result.bytes)}"
        return f"{label(result)}: {result.added:,} added, {result.modified:,} modified; {linked}"

    with cli.session() as session:
        request = AddExternal(
            ref=cli.version(session, None, id, Want.DRAFT).id,
            urls=tuple(urls),
            wildcard=tuple(wildcard) if wildcard else None,
            dataset_path=dataset_path,
            recursive=recursive,
            connection=connection,
        )
        return cli.perform(session, request, describe)


def sync(
    cli: Cli,
    path: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The folder to mirror, or a URL: s3://, gs://, azure://.")
    ],
    id: opt.Id = None,
    wildcard: opt.Wildcards = None,
    exclude: opt.Excludes = None,
    dataset_path: opt.DatasetPath = None,
    max_workers: opt.Workers = None,
    connection: opt.Connection = None,
) -> int:
    """Make a draft, or the part under --dataset-path, equal to a folder."""
    from dataset_tasks.ops.requests import SyncFolder, SyncFolderResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, SyncFolderResult)
        changes = f"{result.added:,} added, {result.modified:,} modified, {result.removed:,} removed"
        return f"{label(result)}: {changes}; the folder has {count(result.files, 'file')}, {size(result.bytes)}"

    with cli.session() as session:
        request = SyncFolder(
            ref=cli.version(session, None, id, Want.DRAFT).id,
            path=path,
            dataset_path=dataset_path,
            wildcard=tuple(wildcard) if wildcard else None,
            exclude=tuple(exclude or ()),
            max_workers=max_workers,
            connection=connection,
        )
        return cli.perform(session, request, describe)


def remove(
    cli: Cli,
    pattern: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Paths or globs in the dataset.", show_default=False),
    ] = None,
    id: opt.Id = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every file.")] = False,
    recursive: Annotated[bool, typer.Option(help="Whether the last part matches at any depth.")] = True,
) -> int:
    """Remove files from a draft by path or pattern; exit code 3 when none matches."""
    from dataset_tasks.ops.requests import RemoveFiles, RemoveFilesResult

    if bool(pattern) == everything:
        raise InvalidArgumentError("give patterns or --all, one of the two", hint='Write dataset-tasks remove "*.tmp".')

    def describe(result: requests.Result) -> str:
        assert isinstance(result, RemoveFilesResult)
        return f"{label(result)}: {result.removed:,} removed"

    def nothing(result: requests.Result) -> str:
        assert isinstance(result, RemoveFilesResult)
        asked = " or ".join(repr(each) for each in pattern) if pattern else ""
        why = f"no file matches {asked}" if pattern else "it has no files"
        return "" if result.removed else why

    with cli.session() as session:
        ref = cli.version(session, None, id, Want.DRAFT).id
        request = RemoveFiles(ref=ref, patterns=tuple(pattern) if pattern else None, recursive=recursive)
        return cli.perform(session, request, describe, stands=nothing)


def transform(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    call: opt.Call = None,
    run: opt.Program = None,
    arguments: opt.Arguments = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A variable the code sees.", show_default=False)
    ] = None,
    env_from: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A variable passed on and never recorded.", show_default=False),
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PROGRAM", help="Another interpreter for --call.", show_default=False)
    ] = None,
    code_version: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Stands for the code in the fingerprint.", show_default=False)
    ] = None,
    always: Annotated[bool, typer.Option("--always", help="Run it though nothing it depends on changed.")] = False,
    dataset_path: opt.DatasetPath = None,
) -> int:
    """Run your code over a draft's inputs and add what it writes."""
    from dataset_tasks.ops.requests import Transform, TransformResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, TransformResult)
        wrote = f"wrote {count(result.files, 'file')}, {size(result.bytes)}, in {result.seconds:.1f} s"
        return f"{label(result)}: {wrote}: {result.added:,} added, {result.modified:,} modified"

    with cli.session() as session:
        request = Transform(
            ref=cli.version(session, ref, id, Want.DRAFT).id,
            call=call,
            run=tuple(shlex.split(run)) if run is not None else None,
            arguments=opt.pairs(arguments, "--with"),
            env=opt.texts(env, "--env"),
            env_from=tuple(env_from or ()),
            python=python,
            code_version=code_version,
            always=always,
            folder=os.getcwd(),
            dataset_path=dataset_path,
        )
        return cli.perform(session, request, describe)


def check(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    min_files: Annotated[
        int | None, typer.Option(metavar="N", help="At least so many files.", show_default=False)
    ] = None,
    max_files: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many files.", show_default=False)
    ] = None,
    min_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="At least so many bytes.", show_default=False)
    ] = None,
    max_change: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="At most this share of files changed, 0 to 1.", show_default=False),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="FILES=SCHEMA", help="Files held against a pandera schema file.", show_default=False),
    ] = None,
    call: opt.Call = None,
    warn: Annotated[bool, typer.Option("--warn", help="Record what does not hold and go on.")] = False,
    hashed: Annotated[bool, typer.Option("--hash", help="Of the whole store: read every byte.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Of the whole store: list objects nobody knows.")] = False,
) -> int:
    """Hold a draft against rules. Without a version and rules: look at the whole store, exit code 1 when damaged."""
    rules = (min_files, max_files, min_bytes, max_change, table, call)
    if ref is None and id is None and all(rule is None for rule in rules):
        from dataset_tasks.cli.collecting import check_store

        return check_store(cli, hashed=hashed, orphans=orphans)
    if hashed or orphans:
        raise InvalidArgumentError(
            "--hash and --orphans are for the whole store", hint="Leave out the version and the rules, or use `verify`."
        )
    from dataset_tasks.ops.requests import Check, CheckResult, TableCheck

    def describe(result: requests.Result) -> str:
        assert isinstance(result, CheckResult)
        missed = len(result.findings)
        said = f"{count(missed, 'rule')} not met, recorded" if missed else "all rules are met"
        lines = [f"{label(result)}: {said}", *(f"  note: {shown(note)}" for note in result.notes)]
        return "\n".join(lines)

    with cli.session() as session:
        request = Check(
            ref=cli.version(session, ref, id, Want.DRAFT).id,
            min_files=min_files,
            max_files=max_files,
            min_bytes=min_bytes,
            max_change=max_change,
            tables=tuple(TableCheck(files=f, schema=s) for f, s in opt.texts(table, "--table").items()),
            call=call,
            severity="warn" if warn else "error",
            folder=os.getcwd(),
        )
        return cli.perform(session, request, describe)


def upload(
    cli: Cli,
    ref: opt.Ref = None,
    id: opt.Id = None,
    output_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Becomes the version's store.", show_default=False)
    ] = None,
    compression: Annotated[str, typer.Option(metavar="deflate|store", help="How files are packed.")] = "deflate",
    chunk_size: Annotated[
        float | None, typer.Option(metavar="MIB", help="Size of an archive. Default: 128.", show_default=False)
    ] = None,
    max_workers: opt.Workers = None,
    retries: Annotated[int, typer.Option(metavar="N", min=0, help="Tries again when the store does not answer.")] = 3,
) -> int:
    """Store the bytes of every pending file of a draft."""
    from dataset_tasks.ops.requests import Upload, UploadResult

    if compression not in ("deflate", "store"):
        raise InvalidArgumentError(f"--compression {compression!r} is unknown", hint="Write deflate or store.")

    def describe(result: requests.Result) -> str:
        assert isinstance(result, UploadResult)
        went = f"{size(result.stored_bytes)} stored in {count(result.chunks, 'chunk')}"
        return f"{label(result)}: {count(result.files, 'file')}, {size(result.bytes)}: {went}"

    with cli.session() as session:
        request = Upload(
            ref=cli.version(session, ref, id, Want.DRAFT).id,
            store=output_url,
            compression="store" if compression == "store" else "deflate",
            chunk_size=chunk_size,
            max_workers=max_workers,
            retries=retries,
        )
        return cli.perform(session, request, describe)


def finalize(cli: Cli, ref: opt.Ref = None, id: opt.Id = None) -> int:
    """Make a draft final: from then on it never changes."""
    from dataset_tasks.ops.requests import Finalize, FinalizeResult

    def describe(result: requests.Result) -> str:
        assert isinstance(result, FinalizeResult)
        holds = f"{count(result.files, 'file')}, {size(result.bytes)}, {size(result.new_bytes)} new in the store"
        return f"finalized {label(result)} {result.version_id}: {holds}"

    with cli.session() as session:
        version = cli.version(session, ref, id, Want.DRAFT)
        why = "it is final already" if version.state.is_final else ""
        return cli.perform(session, Finalize(ref=version.id), describe, stands=lambda _result: why)
