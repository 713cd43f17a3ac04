"""`airflow datasets`: what is in the catalog of an Airflow connection, and answers to approvals."""

from __future__ import annotations

import functools
import getpass
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, Arg, GroupCommand
from airflow.utils.cli import suppress_logs_and_warning

from airflow_provider import settings
from airflow_provider.hooks.dataset import DatasetHook
from dataset_tasks.errors import DatasetError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from dataset_tasks.catalog.sql import Catalog
    from dataset_tasks.model import Approval, Version
    from dataset_tasks.session import Session


def _arg(*flags: str, **options: Any) -> Arg:  # Any: as argparse has them
    return Arg(flags, **options)  # type: ignore[no-untyped-call]  # of Airflow


_CONN_ID = _arg("-c", "--conn-id", help="The connection of the catalog; default [dataset_tasks] conn_id")
_REF = _arg("ref", help="A version: its id, or project/name@1.0.3, @published, @latest, @alias")
_ASKED = _arg("ref", help="The version that waits: project/name, project/name@1.0.3 or its id")
_DATASET = _arg("dataset", help="project/name")
_PROJECT = _arg("-p", "--project", help="Only of this project")
_LIMIT = _arg("-n", "--limit", type=int, default=50, help="At most so many (default 50)")
_NOTE = _arg("--note", default="", help="Kept beside the answer")
_WHO = _arg("--who", help="Who answers; default who is logged in on this machine")


def get_cli_commands() -> list[GroupCommand]:
    """What Airflow adds to its command line."""

    def action(name: str, text: str, work: Callable[[Namespace], None], *args: Arg) -> ActionCommand:
        return ActionCommand(
            name=name, help=text, func=suppress_logs_and_warning(_in_words(work)), args=(*args, _CONN_ID, ARG_VERBOSE)
        )

    return [
        GroupCommand(
            name="datasets",
            help="Versioned datasets of dataset-tasks",
            subcommands=(
                action("list", "List datasets with their newest version", list_datasets, _PROJECT, ARG_OUTPUT),
                action(
                    "versions", "List the versions of a dataset, newest first", versions, _DATASET, _LIMIT, ARG_OUTPUT
                ),
                action("show", "Show a version, where it comes from and who made it", show, _REF, ARG_OUTPUT),
                action("approvals", "List the versions that wait for an answer", approvals, ARG_OUTPUT),
                action("approve", "Let a version be published", approve, _ASKED, _NOTE, _WHO),
                action("reject", "Keep a version from being published", reject, _ASKED, _NOTE, _WHO),
            ),
        )
    ]


def _in_words(work: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """The command with errors as message and hint instead of a traceback; the exit code is 1."""

    @functools.wraps(work)
    def told(args: Namespace) -> None:
        try:
            work(args)
        except DatasetError as error:
            raise SystemExit(str(error)) from error

    return told


def list_datasets(args: Namespace) -> None:
    """`airflow datasets list`."""
    catalog = _catalog(args)
    newest = [
        version
        for project, name, _, _ in catalog.datasets()
        if args.project in (None, project)
        for version in catalog.newest(project=project, name=name, limit=1)
    ]
    _print(args, [_row(version) for version in newest])


def versions(args: Namespace) -> None:
    """`airflow datasets versions`."""
    project, _, name = args.dataset.rpartition("/")
    _print(args, [_row(version) for version in _catalog(args).newest(project=project, name=name, limit=args.limit)])


def show(args: Namespace) -> None:
    """`airflow datasets show`."""
    catalog = _catalog(args)
    version = catalog.resolve(args.ref)
    lineage = {"parents": version.parents, "inputs": [f"{one.name}={one.ref}" for one in version.inputs]}
    facts = {**_row(version), "id": version.id, "hash": version.content_hash, **lineage, **version.origin}
    _print(args, [{"property": name, "value": _text(value)} for name, value in facts.items()])


def approvals(args: Namespace) -> None:
    """`airflow datasets approvals`."""
    catalog = _catalog(args)
    found = [catalog.approval(one.version_id) for one in catalog.approvals(states=("open",))]
    _print(args, [_question(catalog, one) for one in found if one is not None and one.state == "open"])


def approve(args: Namespace) -> None:
    """`airflow datasets approve`."""
    _answer(args, approved=True)


def reject(args: Namespace) -> None:
    """`airflow datasets reject`."""
    _answer(args, approved=False)


def _answer(args: Namespace, *, approved: bool) -> None:
    session = _session(args)
    catalog = session.catalog
    version = catalog.asked(args.ref) if "/" in args.ref and "@" not in args.ref else catalog.resolve(args.ref)
    held = catalog.answer(version.id, approved, args.who or getpass.getuser(), args.note)
    session.flush_journal()
    print(f"{version.label}: {held.told}")  # noqa: T201  # what the command says


def _question(catalog: Catalog, question: Approval) -> dict[str, str]:
    return {
        "version": catalog.version(question.version_id).label,
        "id": question.version_id,
        "asked": _text(question.requested),
        "of": _text(question.by),
        "deadline": _text(question.deadline),
        "otherwise": question.otherwise,
    }


def _session(args: Namespace) -> Session:
    return DatasetHook(args.conn_id or settings.connection_id()).get_session()


def _catalog(args: Namespace) -> Catalog:
    return _session(args).catalog


def _row(version: Version) -> dict[str, str]:
    return {
        "dataset": version.dataset,
        "version": version.version,
        "state": str(version.state),
        "files": str(version.files),
        "bytes": str(version.bytes),
        "tags": _text(version.tags),
        "created": _text(version.created),
    }


def _text(value: Any) -> str:  # Any: whatever a version holds
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "strftime") else str(value)


def _print(args: Namespace, rows: list[dict[str, str]]) -> None:
    from airflow.cli.simple_table import AirflowConsole

    AirflowConsole().print_as(data=rows, output=args.output)
