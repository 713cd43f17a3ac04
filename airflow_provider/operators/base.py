"""What every dataset operator has in common: from its arguments to a request, from the result to XCom."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider import running
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.links import DatasetVersionLink
from dataset_tasks.ops.references import inputs, reference, references
from dataset_tasks.ops.requests import Request, Result, Stage
from dataset_tasks.ops.wire import request_from_json, to_json

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.session import Session

#: Seconds from SIGTERM to the end of the process, whatever holds it up; Airflow kills it after 5.
STOP_WITHIN = 4.0
_STOPPED = 128 + 15


class StoppableOperator(BaseOperator):
    """What all tasks on versions share: SIGTERM really stops them, and they tell which version they made.

    Airflow itself only calls `on_kill` and lets the task run on.
    """

    operator_extra_links = (DatasetVersionLink(),)
    #: Id of the version that the task made or found; for the link to its page.
    found_version: str = ""
    #: Whether `execute` is under way: a signal that comes while Airflow itself is at work is left alone.
    _at_work: bool = False
    _last_word: threading.Timer | None = None
    _done: tuple[Session, str, Result] | None = None

    def execute(self, context: Context) -> Any:  # Any: what Airflow's own `execute` gives
        """Runs `work`, open to being stopped."""
        self._at_work = True
        self.outlets = list(self.outlets)  # a publish changes them: for this run, not for the DAG's task
        if self.execution_timeout is not None:
            # Airflow raises an error in the work and waits for it to come out, however long a store holds up its threads.
            self._end_in(self.execution_timeout.total_seconds() + STOP_WITHIN)
        try:
            return self.work(context)
        finally:
            self._at_work = False
            if self._last_word is not None:
                self._last_word.cancel()

    def work(self, context: Context) -> Any:  # Any: as execute
        """What the operator does."""
        raise NotImplementedError

    def remember(self, session: Session, verb: str, result: Result) -> None:
        """Keeps what the task did, for its link and for OpenLineage."""
        self.found_version = result.version_id
        self._done = (session, verb, result)

    def on_kill(self) -> None:
        """Interrupts the work, which cleans up on the way out; the try ends as failed and may be retried.

        Work that has not stopped after `STOP_WITHIN` seconds, in a thread that waits for a store say, is ended with its
        process, as a crash would: what it leaves is nothing that anybody sees.

        Raises:
            SystemExit: With the code of a process that SIGTERM ended.
        """
        if self._at_work:
            self._at_work = False  # a second signal does not interrupt the cleaning up
            if self._last_word is not None:
                self._last_word.cancel()
            self._end_in(STOP_WITHIN)
            raise SystemExit(_STOPPED)

    def _end_in(self, seconds: float) -> None:
        """Ends the process then, unless the work has stopped by itself."""
        self._last_word = threading.Timer(seconds, os._exit, (_STOPPED,))
        self._last_word.daemon = True
        self._last_word.start()

    def get_openlineage_facets_on_complete(self, task_instance: object) -> Any:  # Any: of a provider that may be absent
        """The versions that the task read and made, for OpenLineage; None where it made and found none."""
        if self._done is None:
            return None
        from airflow_provider.lineage import describe

        session, verb, result = self._done
        return describe(session.catalog, verb, result)


class DatasetOperator(StoppableOperator):
    """Base of the operators: one operation each, its request's fields as keyword arguments of the same names.

    A subclass names its request in `operation` and assigns its arguments in `__init__`; all of them are templated. The
    result goes to XCom as a dict, and each field of it under its own key, so `create.output["version_id"]` works.

    Args:
        conn_id: Airflow connection of the catalog and store; see `DatasetHook`.
        skip_when_unchanged: End as skipped, result pushed, when no version was made because nothing changed. What
            comes after needs the trigger rule `none_failed` then.
        kwargs: Arguments of Airflow's `BaseOperator`.
    """

    operation: ClassVar[type[Request]]
    #: Fields of the request that go by another name here, because Airflow's operators have an attribute of theirs.
    renamed: ClassVar[Mapping[str, str]] = {}
    template_fields: Sequence[str] = ("conn_id",)
    ui_color = "#e8f4ea"

    def __init_subclass__(cls, **kwargs: Any) -> None:  # Any: the protocol of __init_subclass__
        """Makes every argument a template field."""
        super().__init_subclass__(**kwargs)
        if "operation" in vars(cls):
            names = (cls.renamed.get(spec.name, spec.name) for spec in dataclasses.fields(cls.operation))
            cls.template_fields = ("conn_id", *names)

    def __init__(
        self,
        *,
        conn_id: str = DEFAULT_CONN_ID,
        skip_when_unchanged: bool = False,
        multiple_outputs: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.conn_id = conn_id
        self.skip_when_unchanged = skip_when_unchanged

    def request(self, catalog_id: str) -> Request:
        """The request that the rendered arguments make.

        Raises:
            InvalidArgumentError: An argument has another type than the request's field.
            WrongCatalogError: A reference comes from another catalog.
        """
        data: dict[str, object] = {"verb": self.operation.verb}
        for spec in dataclasses.fields(self.operation):
            held = getattr(self, self.renamed.get(spec.name, spec.name))
            if held is not None:
                data[spec.name] = _plain(spec.name, held, catalog_id)
        return request_from_json(data)

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Runs the operation.

        Raises:
            AirflowFailException: It failed in a way that a retry does not mend.
            AirflowSkipException: Nothing changed, and `skip_when_unchanged` is set.
            DatasetError: It failed; a retry may succeed.
        """
        with running.translated():
            session = DatasetHook(self.conn_id).get_session()
            result = running.perform(session, self.request(session.catalog.id), context)
            self.remember(session, self.operation.verb, result)
            self.finish(result, context)
        payload = running.small(result)
        if result.unchanged and self.skip_when_unchanged:
            running.skip(payload, context)
        return payload

    def finish(self, result: Result, context: Context) -> None:
        """What is left to do once the operation is done; nothing, for most."""


def _plain(name: str, held: object, catalog_id: str) -> object:
    """The argument as the JSON that requests are read from."""
    match name:
        case "ref":
            return reference(held, catalog_id=catalog_id)
        case "refs" | "parents":
            return references(held, catalog_id=catalog_id)
        case "inputs":
            return [dataclasses.asdict(one) for one in inputs(held, catalog_id=catalog_id)]
        case "stages" if isinstance(held, Sequence):
            return [{"id": one.id, "request": to_json(one.request)} if isinstance(one, Stage) else one for one in held]
        case (
            "by" | "urls" | "wildcard" | "exclude" | "patterns" | "files" | "tags" | "env_from" | "copies" | "folders"
        ) if isinstance(held, str):
            return [held]
        case _:
            return list(held) if isinstance(held, tuple | set) else held
