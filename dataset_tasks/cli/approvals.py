"""Commands that answer whether a version may be published: approve, reject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import Exit, command
from dataset_tasks.cli.context import Cli, Want, origin, user
from dataset_tasks.cli.output import shown
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Approval, JsonValue, Version

if TYPE_CHECKING:
    from dataset_tasks.session import Session

PANEL = "Approve"

Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept with the answer.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who answers. Default: you.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "approve", panel=PANEL)(approve)
    command(app, "reject", panel=PANEL)(reject)


def approve(
    cli: Cli,
    ref: opt.Ref = None,
    note: Note = "",
    by: By = None,
    reopen: Annotated[bool, typer.Option("--reopen", help="Take the answer back and ask again.")] = False,
    open: Annotated[bool, typer.Option("--list", help="Show what waits for an answer.")] = False,
    id: opt.Id = None,
) -> Exit:
    """Approve a version that waits: the next run publishes it."""
    if open:
        return _list(cli)
    if reopen and (note or by):
        raise InvalidArgumentError(
            "--reopen asks again and answers nothing", hint="Leave out --note and --by, then answer in a second call."
        )
    with cli.session() as session:
        version = _asked(cli, session, ref, id)
        if reopen:
            before = session.catalog.approval(version.id)
            question = session.catalog.reopen(version.id, origin=origin())
            session.flush_journal()
            return _tell(cli, version, question, unchanged=before is not None and before.state == "open")
        return _answer(cli, session, version, approved=True, note=note, by=by)


def reject(cli: Cli, ref: opt.Ref = None, note: Note = "", by: By = None, id: opt.Id = None) -> Exit:
    """Reject a version that waits: no look-up by name finds it from now on."""
    with cli.session() as session:
        return _answer(cli, session, _asked(cli, session, ref, id), approved=False, note=note, by=by)


def _answer(cli: Cli, session: Session, version: Version, *, approved: bool, note: str, by: str | None) -> Exit:
    who = by or user()
    before = session.catalog.approval(version.id)
    given = session.catalog.answer(version.id, approved, who, note)
    session.flush_journal()
    if given.by and who not in given.by:
        cli.out.note(shown(f"asked were {', '.join(given.by)}; the answer of {who} is recorded"))
    return _tell(cli, version, given, unchanged=before is not None and before.state != "open")


def _asked(cli: Cli, session: Session, ref: str | None, given_id: str | None) -> Version:
    """The version that is meant: of a dataset named without `@`, the one that waits, else the one asked about last.

    Raises:
        StateError: Nobody ever asked about a version of the dataset.
    """
    text = ref if ref is not None else given_id
    if text is None or "@" in text or "/" not in text:
        return cli.version(session, ref, given_id, Want.LATEST)
    return session.catalog.asked(text)


def _list(cli: Cli) -> Exit:
    with cli.session() as session:
        found = [session.catalog.approval(each.version_id) for each in session.catalog.approvals(states=("open",))]
        waiting = [each for each in found if each is not None and each.state == "open"]
        session.flush_journal()
        versions = {each.version_id: session.catalog.version(each.version_id) for each in waiting}
        if cli.as_json:
            cli.out.document({"approvals": [document(versions[each.version_id], each) for each in waiting]})
        else:
            for each in waiting:
                cli.out.line(each.version_id if cli.quiet else shown(sentence(versions[each.version_id], each)))
            if not waiting:
                cli.out.note("nothing waits for an answer")
    return Exit.DONE if waiting else Exit.NOTHING_TO_DO


def _tell(cli: Cli, version: Version, question: Approval, *, unchanged: bool) -> Exit:
    if cli.as_json:
        cli.out.document({**document(version, question), "unchanged": unchanged})
    elif cli.quiet:
        cli.out.line(version.id)
    else:
        cli.out.line(shown(sentence(version, question)))
    return Exit.NOTHING_TO_DO if unchanged else Exit.DONE


def sentence(version: Version, question: Approval) -> str:
    """A question as it stands, in a line."""
    parts = [f"{version.label} {question.told}"]
    if question.state == "open":
        parts.append(f"since {question.requested:%Y-%m-%d %H:%M} UTC")
        if question.by:
            parts.append(f"of {', '.join(question.by)}")
        if question.deadline is not None:
            parts.append(f"(by {question.deadline:%Y-%m-%d %H:%M} UTC, else {question.otherwise})")
    if question.note:
        parts.append(f"({question.note})")
    return " ".join(parts)


def document(version: Version, question: Approval) -> dict[str, JsonValue]:
    """A question as JSON; times in ISO 8601, UTC."""
    return {
        "version_id": version.id,
        "label": version.label,
        "state": question.state,
        "outcome": question.outcome,
        "asked": question.requested.isoformat(),
        "deadline": question.deadline.isoformat() if question.deadline is not None else None,
        "by": list(question.by),
        "otherwise": question.otherwise,
        "alias": question.alias or None,
        "answered": question.answered.isoformat() if question.answered is not None else None,
        "who": question.who,
        "note": question.note,
        "origin": question.origin,
    }
