"""Runs requests: replays what an operation key has done already, else calls the operation's module."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from dataset_tasks.errors import AlreadyExistsError, KeyReusedError, NotFoundError
from dataset_tasks.model import JsonValue, State, Version
from dataset_tasks.ops.context import RANDOM_KEY, STANDS, Context, about, digest
from dataset_tasks.ops.fields import check_fields
from dataset_tasks.ops.requests import OPERATIONS, Request, Result
from dataset_tasks.ops.settling import settle
from dataset_tasks.ops.wire import result_from_json
from dataset_tasks.progress import Progress
from dataset_tasks.session import Session

if TYPE_CHECKING:
    from dataset_tasks.ops.onepass import Kept

_STRICT_KEYS = {"create", "squash"}
_ON_DRAFTS = {"add", "external", "sync", "remove", "transform", "check", "upload", "finalize"}


class _Operation(Protocol):
    def run(self, context: Context, request: Request) -> Result: ...


def run(
    session: Session,
    request: Request,
    *,
    key: str | None,
    origin: Mapping[str, JsonValue],
    progress: Progress,
    functions: Mapping[str, Callable[..., Any]],  # Any: users' functions
    kept: Kept | None = None,
) -> Result:
    """Runs one operation; see `Session.run` and, for `kept`, `Context`."""
    check_fields(request)
    session.look_again()
    context = Context(
        session=session,
        key=key or f"{RANDOM_KEY}{secrets.token_hex(16)}",
        origin=origin,
        progress=progress,
        functions=functions,
        kept=kept,
    )
    if key is not None:
        replayed = _replay(session, request, key)
        if replayed is not None:
            settle(context, session.catalog.version(replayed.version_id))  # its try may have died behind its commit
            return replayed
    try:
        return perform(context, request)
    except AlreadyExistsError:
        made = _replay(session, request, key) if key is not None and request.verb in _STRICT_KEYS else None
        if made is None:
            raise
        return made  # another process was faster with the same key


def perform(context: Context, request: Request) -> Result:
    """Calls the module of the request's verb; each verb has the module `dataset_tasks.ops.<verb>`.

    A step on a draft that was dropped because the dataset is unchanged gives the version that stands instead.
    """
    standing = _standing(context, request)
    if standing is not None:
        why = f"{standing.label} holds just this already"
        return OPERATIONS[request.verb][1](**about(standing), unchanged=True, why=why)
    module = cast("_Operation", import_module(f"dataset_tasks.ops.{request.verb}"))
    return module.run(context, request)


def _replay(session: Session, request: Request, key: str) -> Result | None:
    """What the operation gave before. One that converges is done again, unless its version is final by now."""
    found = session.catalog.recorded(key)
    if found is None:
        return None
    if not request.once:
        final = request.verb in _ON_DRAFTS and session.catalog.version(found.version_id).state.is_final
        if not final:
            return None
    if found.verb != request.verb or found.digest != digest(request):
        if request.verb not in _STRICT_KEYS:
            return None
        raise KeyReusedError(
            f"the operation key {key!r} was used for {found.verb} with other parameters",
            hint="Give each operation a key of its own; a retry must repeat its parameters.",
        )
    if request.verb in _STRICT_KEYS and was_dropped(session, found.version_id):
        return None
    return result_from_json(request.verb, found.result)


def was_dropped(session: Session, version_id: str) -> bool:
    """Whether a draft was given up, and no other version stands in its place."""
    version = session.catalog.version(version_id)
    return version.state is State.ABORTED and STANDS not in version.origin


def _standing(context: Context, request: Request) -> Version | None:
    if request.verb not in _ON_DRAFTS:
        return None
    ref = getattr(request, "ref", "")
    try:
        version = context.session.catalog.resolve(ref)
    except NotFoundError:
        return None
    stands = version.origin.get(STANDS) if version.state is State.ABORTED else None
    return context.session.catalog.version(str(stands)) if stands else None
