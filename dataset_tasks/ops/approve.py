"""approve: asks whether a final version may be published, and looks whether somebody answered."""

from __future__ import annotations

from dataclasses import replace

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Approval, State, Version
from dataset_tasks.ops.context import Context, about, require_final
from dataset_tasks.ops.requests import Approve, ApproveResult


def run(context: Context, request: Approve) -> ApproveResult:
    """Opens the question once, and gives it as it stands; a deadline that is past makes `otherwise` the answer.

    Until the answer no look-up by name finds the version; one that was rejected stays out of them.

    Raises:
        InvalidArgumentError: The timeout is not a length of time.
        StateError: The version is not final, or is quarantined because it did not verify.
    """
    if request.timeout is not None and request.timeout <= 0:
        raise InvalidArgumentError(
            f"the timeout of an approval is {request.timeout:g} seconds", hint="Give more than none, or leave it out."
        )
    catalog = context.session.catalog
    version = catalog.resolve(request.ref)
    require_final(version, "approve")
    if version.state is State.PUBLISHED:
        why = f"{version.label} is published already"
        held = catalog.approval(version.id)
        known = result_of(version, held) if held is not None else ApproveResult(**about(version), state="approved")
        return _with(known, why)
    question = catalog.open_approval(
        version,
        by=request.by,
        timeout=request.timeout,
        otherwise=request.otherwise,
        alias=request.alias or "",
        origin=context.origin,
    )
    context.session.flush_journal()
    return result_of(version, question)


def result_of(version: Version, question: Approval) -> ApproveResult:
    """What the operation says of a question."""
    return ApproveResult(
        **about(version),
        why=question.told,
        state=question.outcome,
        who=question.who,
        note=question.note,
        asked=question.requested.isoformat(),
        deadline=question.deadline.isoformat() if question.deadline is not None else None,
        by=question.by,
    )


def _with(known: ApproveResult, why: str) -> ApproveResult:
    return replace(known, state="approved", unchanged=True, why=why)
