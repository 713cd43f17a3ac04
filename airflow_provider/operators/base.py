"""What every dataset operator has in common: from its arguments to a request, from the result to XCom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider import running
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from dataset_tasks.ops.references import inputs, reference, references
from dataset_tasks.ops.requests import Request, Result, Stage
from dataset_tasks.ops.wire import request_from_json, to_json

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue


class StoppableOperator(BaseOperator):
    """An operator that SIGTERM really stops: Airflow itself only calls `on_kill` and lets the task run on."""

    #: Whether `execute` is under way: a signal that comes while Airflow itself is at work is left alone.
    _at_work: bool = False

    def execute(self, context: Context) -> Any:  # Any: what Airflow's own `execute` gives
        """Runs `work`, open to being stopped."""
        self._at_work = True
        try:
            return self.work(context)
        finally:
            self._at_work = False

    def work(self, context: Context) -> Any:  # Any: as execute
        """What the operator does."""
        raise NotImplementedError

    def on_kill(self) -> None:
        """Interrupts the work, which cleans up on the way out; the try ends as failed and may be retried.

        Raises:
            SystemExit: With the code of a process that SIGTERM ended.
        """
        if self._at_work:
            self._at_work = False  # a second signal does not interrupt the cleaning up
            raise SystemExit(128 + 15)


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
        case "urls" | "wildcard" | "exclude" | "patterns" | "files" | "tags" | "env_from" if isinstance(held, str):
            return [held]
        case _:
            return list(held) if isinstance(held, tuple | set) else held
