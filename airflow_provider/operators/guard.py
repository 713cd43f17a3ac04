"""A teardown for drafts: what was begun and not finished is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider import running
from airflow_provider.compat import AirflowSkipException
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.operators.base import StoppableOperator
from dataset_tasks.model import State
from dataset_tasks.ops.references import reference
from dataset_tasks.ops.requests import Delete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.ops.references import Ref


class DatasetDropDraftOperator(StoppableOperator):
    """Drops a draft, and leaves a version that was finalized alone: the teardown of a create.

    Args:
        ref: The draft.
        conn_id: Airflow connection; see `DatasetHook`.
        kwargs: Arguments of Airflow's `BaseOperator`.

    Example::

        create = DatasetCreateOperator(task_id="create", project="crm", name="orders").as_setup()
        drop = DatasetDropDraftOperator(task_id="drop", ref=create.output).as_teardown(setups=create)
        create >> add >> upload >> finalize >> drop
    """

    template_fields: Sequence[str] = ("ref", "conn_id")

    def __init__(
        self,
        *,
        ref: Ref,
        conn_id: str = DEFAULT_CONN_ID,
        multiple_outputs: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.ref = ref
        self.conn_id = conn_id

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Drops the draft, if it is one still.

        Raises:
            AirflowFailException: It failed in a way that a retry does not mend.
            AirflowSkipException: There is nothing to drop: the version is final, or was dropped before.
            DatasetError: It failed; a retry may succeed.
        """
        with running.translated():
            session = DatasetHook(self.conn_id).get_session()
            version = session.catalog.resolve(reference(self.ref, catalog_id=session.catalog.id))
            if version.state is not State.IN_PROGRESS:
                raise AirflowSkipException(f"{version.label} is {version.state}")
            result = running.perform(session, Delete(ref=version.id), context)
            self.remember(session, Delete.verb, result)
        return running.small(result)
