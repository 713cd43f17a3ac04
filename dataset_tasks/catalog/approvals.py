"""Questions whether a version may be published, and their answers. The newest of a version holds.

A version that waits, or was refused, is quarantined by a mark of `dataset_tasks.holding`, so no look-up by name gives it
out. Question, mark and event are written in one transaction; the first answer wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from dataset_tasks import holding
from dataset_tasks.catalog import tables as t
from dataset_tasks.catalog.queries import FINAL, up_to
from dataset_tasks.catalog.rows import checked_text, dump, from_micros
from dataset_tasks.catalog.writes import Writes, advance, insert_event, lock
from dataset_tasks.errors import StateError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import Approval, JsonValue, State, Version

_MICROS = 1_000_000
_MOST_SECONDS = 100 * 365 * 86_400


class Approvals(Writes):
    """The part of a catalog that holds questions and answers."""

    def approval(self, version_id: str) -> Approval | None:
        """The newest question of a version; None when nobody ever asked.

        One whose deadline is past is answered with its `otherwise` here, as the first to look.
        """
        found = self.look(version_id)
        if found is None or found.state != "expired" or found.answered is not None:
            return found
        return self._change(lambda connection: self._expire(connection, version_id))

    def look(self, version_id: str) -> Approval | None:
        """The newest question of a version as `approval` would give it; writes nothing down."""
        found = self.db.read(lambda connection: _newest(connection, version_id))
        return replace(found, state="expired") if found is not None and self._is_overdue(found) else found

    def approvals(self, *, states: Collection[str] | None = None, limit: int | None = None) -> list[Approval]:
        """Questions of all versions, the newest first.

        Args:
            states: Only those in one of these states, such as `("open",)`. Open ones may be overdue: see `approval`.
            limit: At most so many.
        """
        query = sa.select(t.approvals).order_by(t.approvals.c.sequence.desc())
        if states is not None:
            query = query.where(t.approvals.c.state.in_(list(states)))
        if limit is not None:
            query = query.limit(limit)
        rows = self.db.read(lambda connection: connection.execute(query).mappings().all())
        return [_approval(row) for row in rows]

    def asked(self, dataset: str) -> Version:
        """The version of a dataset (`project/name`) an answer is meant for: the one that waits, else the one asked last.

        Raises:
            StateError: Nobody ever asked about a version of the dataset.
        """
        project, _, name = dataset.rpartition("/")
        own = {version.id: version for version in self.versions(project=project, name=name)}
        found = [each for each in self.approvals() if each.version_id in own]
        if not found:
            raise StateError(
                f"nobody asked about a version of {dataset}",
                kind="not_asked",
                hint="A spec asks with `publish: {approval: {...}}`.",
            )
        waiting = [each for each in found if each.state == "open"]
        return own[(waiting or found)[0].version_id]

    def proposed(
        self, project: str, name: str, partition: str | None = None, *, until: datetime | None = None
    ) -> Version | None:
        """The newest final version of a dataset (and partition), when it waits for approval alone or was refused it.

        The newest is one of the latest window, with `until` of those that begin then or before.
        """
        newest = (
            (t.versions.c.project == project)
            & (t.versions.c.name == name)
            & (t.versions.c.partition == (partition or ""))
            & t.versions.c.state.in_(FINAL)
            & up_to(until)
        )
        by_window = sa.func.coalesce(t.versions.c.window, -(2**62)).desc()
        found = self._select(newest, order=(by_window, t.versions.c.sequence.desc()), limit=1)
        if not found or not found[0].quarantined:
            return None
        (version,) = found
        if holding.reasons(version.quarantined) == (holding.APPROVE,):
            return version
        held = self.approval(version.id)
        refused = held is not None and held.outcome == "rejected" and version.quarantined == held.told
        return version if refused else None

    def open_approval(
        self,
        version: Version,
        *,
        by: Collection[str] = (),
        timeout: float | None = None,
        otherwise: Literal["reject", "approve"] = "reject",
        alias: str = "",
        origin: Mapping[str, JsonValue] | None = None,
    ) -> Approval:
        """Asks whether a version may be published; gives the question that is there, where somebody asked before.

        Args:
            version: A final version; from now on, until the answer, no look-up by name finds it.
            by: Who is asked.
            timeout: Seconds after which `otherwise` is the answer; None: never.
            otherwise: See `timeout`.
            alias: The name that publishing will move, for whoever answers.
            origin: Who asks.

        Raises:
            StateError: The version is not final, published already, or quarantined for another reason.
        """
        for name in by:
            checked_text(name, "user name")
        checked_text(alias, "alias")

        def work(connection: Connection) -> Approval:
            before = _newest(connection, version.id)
            if before is not None:
                return self._expire(connection, version.id) if self._is_overdue(before) else before
            now = self._must_wait(connection, version.id)
            question = {
                "by": dump(list(by)),
                "otherwise": otherwise,
                "alias": alias,
                "origin": dump(dict(origin or {})),
            }
            return self._ask(connection, now, question, timeout)

        return self._change(work)

    def reopen(self, version_id: str, *, origin: Mapping[str, JsonValue] | None = None) -> Approval:
        """Takes an answer back and asks again, the same people with the same time to answer.

        Raises:
            StateError: The version is published, is not final, or nobody ever asked about it.
        """

        def work(connection: Connection) -> Approval:
            before = _newest(connection, version_id)
            if before is None:
                raise _nobody_asked(self._one(connection, version_id))
            if self._is_overdue(before):
                before = self._expire(connection, version_id)
            if before.state == "open":
                return before
            now = self._one(connection, version_id)
            if now.quarantined == before.told:
                now = self._mark(connection, now, holding.mark([holding.APPROVE]))
            self._must_wait(connection, version_id)
            timeout = None if before.deadline is None else (before.deadline - before.requested).total_seconds()
            question = {
                "by": dump(list(before.by)),
                "otherwise": before.otherwise,
                "alias": before.alias,
                "origin": dump(dict(origin or before.origin)),
            }
            return self._ask(connection, now, question, timeout)

        return self._change(work)

    def answer(self, version_id: str, approved: bool, who: str, note: str = "") -> Approval:
        """Answers the open question of a version. The first answer wins; the same again does nothing.

        Raises:
            StateError: Of kind `answered`: somebody gave another answer before. Of kind `not_asked`: nobody asked.
        """
        checked_text(who, "user name")
        checked_text(note, "note")
        wanted = "approved" if approved else "rejected"

        def work(connection: Connection) -> Approval:
            found = _newest(connection, version_id)
            if found is None:
                raise _nobody_asked(self._one(connection, version_id))
            if found.state == "open" and not self._is_overdue(found):
                return self._settle(connection, found, wanted, who, note)
            return self._expire(connection, version_id)

        given = self._change(work)
        if given.outcome != wanted:  # said once the transaction is over: that a question expired is to stay
            version = self.version(version_id)
            raise StateError(
                f"{version.label} ({version_id}) was answered before: {given.told}",
                kind="answered",
                hint=f"Ask again with `dataset-tasks approve {version_id} --reopen`, then answer.",
            )
        return given

    # --- inside a transaction

    def _change(self, work: Callable[[Connection], Approval]) -> Approval:
        """Runs one unit of work, other writers held back; each can be repeated when its commit is in doubt."""

        def whole(connection: Connection) -> Approval:
            lock(connection)
            return work(connection)

        failpoint("approve.before_commit")
        done = self.db.write(whole, landed=_unknown)
        failpoint("approve.after_commit")
        return done

    def _is_overdue(self, question: Approval) -> bool:
        return question.state == "open" and question.deadline is not None and question.deadline <= self._clock()

    def _must_wait(self, connection: Connection, version_id: str) -> Version:
        """The version, when it can be asked about; held back from now on."""
        now = self._one(connection, version_id)
        if not now.state.is_final or now.state is State.PUBLISHED:
            raise StateError(
                f"{now.label} ({now.id}) is {now.state}; only a version that is final and not published waits for approval",
                kind="published" if now.state is State.PUBLISHED else "not_finalized",
                hint="Publish another version, or move the alias back with `dataset-tasks alias rollback`."
                if now.state is State.PUBLISHED
                else "Finalize it first.",
            )
        held = holding.reasons(now.quarantined)
        if now.quarantined and not held:
            raise StateError(
                f"{now.label} ({now.id}) is quarantined: {now.quarantined}",
                kind="quarantined",
                hint="Make a new version; this one stays as it is.",
            )
        return now if holding.APPROVE in held else self._mark(connection, now, holding.mark([*held, holding.APPROVE]))

    def _ask(
        self, connection: Connection, version: Version, question: Mapping[str, str], timeout: float | None
    ) -> Approval:
        moment = self._now()
        deadline = None if timeout is None else moment + int(min(timeout, _MOST_SECONDS) * _MICROS)
        row = {"version_id": version.id, "state": "open", "requested": moment, "deadline": deadline, **question}
        sequence = advance(connection)
        connection.execute(sa.insert(t.approvals).values(sequence=sequence, **row))
        return self._told(connection, sequence, version)

    def _settle(self, connection: Connection, question: Approval, state: str, who: str, note: str) -> Approval:
        version = self._one(connection, question.version_id)
        connection.execute(
            sa.update(t.approvals)
            .where((t.approvals.c.sequence == question.sequence) & (t.approvals.c.state == "open"))
            .values(state=state, answered=self._now(), who=who, note=note)
        )
        settled = self._told(connection, question.sequence, version)
        if settled.outcome == "approved":
            mark = holding.without(version.quarantined, holding.APPROVE)
        else:
            mark = (
                settled.told if not version.quarantined or holding.reasons(version.quarantined) else version.quarantined
            )
        self._mark(connection, version, mark)
        return settled

    def _expire(self, connection: Connection, version_id: str) -> Approval:
        question = _newest(connection, version_id)
        assert question is not None
        if not self._is_overdue(question):
            return question
        return self._settle(connection, question, "expired", "", "")

    def _mark(self, connection: Connection, version: Version, quarantined: str) -> Version:
        if version.quarantined == quarantined:
            return version
        values = {"quarantined": quarantined}
        now = self._move(connection, version, None, values)
        insert_event(connection, advance(connection), "changed", now, self._now(), values)
        return now

    def _told(self, connection: Connection, sequence: int, version: Version) -> Approval:
        """The question as it stands now, its row written into an event too: from those a catalog is rebuilt."""
        row = connection.execute(sa.select(t.approvals).where(t.approvals.c.sequence == sequence)).mappings().one()
        insert_event(connection, advance(connection), "approval", version, self._now(), dict(row))
        return _approval(row)


def _newest(connection: Connection, version_id: str) -> Approval | None:
    query = (
        sa.select(t.approvals)
        .where(t.approvals.c.version_id == version_id)
        .order_by(t.approvals.c.sequence.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return _approval(row) if row is not None else None


def _approval(row: RowMapping) -> Approval:
    values: dict[str, Any] = dict(row)  # Any: columns
    for name in ("requested", "deadline", "answered"):
        values[name] = from_micros(values[name]) if values[name] is not None else None
    return Approval(**{**values, "by": tuple(json.loads(row["by"])), "origin": json.loads(row["origin"])})


def _unknown(_connection: Connection) -> Approval | None:
    """Whether a commit landed need not be known: the work done again finds what it did and changes nothing."""
    return None


def _nobody_asked(version: Version) -> StateError:
    return StateError(
        f"nobody asked whether {version.label} ({version.id}) may be published",
        kind="not_asked",
        hint="A spec asks with `publish: {approval: {...}}`; without one, `dataset-tasks publish` needs no answer.",
    )
