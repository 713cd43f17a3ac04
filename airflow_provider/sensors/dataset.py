"""`DatasetSensor`: waits until a dataset has the version that is wanted, and gives it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider import running
from airflow_provider.compat import AirflowFailException, conf
from airflow_provider.conditions import Condition, Until, facts
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.links import DatasetVersionLink
from dataset_tasks.errors import DatasetError

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue


class DatasetSensor(BaseSensorOperator):
    """Waits for a version of a dataset: published or completed, named by an alias, tagged, newer than another.

    What it found goes to XCom, each field under a key of its own: `sensor.output["version_id"]` is the exact version for
    the tasks that read it.

    Args:
        dataset: `project/name`.
        until: `published`, or `completed` (which a published version is, too).
        alias: Wait for the version that this alias names.
        tags: Labels that it must have, all of them.
        partition: Which slice of the dataset.
        newer_than: A version (`1.0.3`, `prod`, an id, a reference) or a moment (`{{ data_interval_start }}`): what came
            later counts, and for an alias also that it has moved since.
        conn_id: Airflow connection; see `DatasetHook`.
        deferrable: Wait in the triggerer, without a worker slot; default Airflow's setting `default_deferrable`.
        kwargs: Arguments of Airflow's `BaseSensorOperator`, such as `poke_interval`, `timeout` and `soft_fail`. Its mode
            `reschedule` fails now and then in Airflow 3: use `poke` or `deferrable`.
    """

    template_fields: Sequence[str] = (
        "dataset", "until", "alias", "tags", "partition", "newer_than", "conn_id",
    )  # fmt: skip
    operator_extra_links = (DatasetVersionLink(),)
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        dataset: str,
        until: Until = "published",
        alias: str | None = None,
        tags: Sequence[str] | str = (),
        partition: str | None = None,
        newer_than: str | None = None,
        conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,  # Any: BaseSensorOperator's own arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.dataset = dataset
        self.until = until
        self.alias = alias
        self.tags = tags
        self.partition = partition
        self.newer_than = newer_than
        self.conn_id = conn_id
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self.found_version = ""

    def condition(self) -> Condition:
        """What is waited for, once the arguments are rendered.

        Raises:
            InvalidArgumentError: See `Condition`.
        """
        return Condition(
            dataset=self.dataset,
            until=self.until,
            alias=self.alias or None,
            tags=(self.tags,) if isinstance(self.tags, str) else tuple(self.tags),
            partition=self.partition,
            newer_than=str(self.newer_than) if self.newer_than else None,
        )

    def execute(self, context: Context) -> Any:  # noqa: RET503  # Any: what Airflow's own `execute` gives
        """Waits here, or looks once and goes on waiting in the triggerer.

        Raises:
            AirflowFailException: It can't come: a wrong argument, another catalog.
            AirflowSensorTimeout: It did not come in time.
        """
        if not self.deferrable:
            return super().execute(context)
        found = self.poke(context)
        if found.is_done:
            return found.xcom_value
        # Not where the other triggers are made, as a worker that does not defer needs none of it.
        from airflow_provider.triggers.dataset import DatasetTrigger

        self.defer(
            trigger=DatasetTrigger(
                condition=self.condition().to_json(), conn_id=self.conn_id, poll_interval=self.poke_interval
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )  # raises; Airflow goes on with `execute_complete`

    def poke(self, context: Context) -> PokeReturnValue:
        """Looks once.

        Raises:
            AirflowFailException: As `execute`.
            DatasetError: The catalog did not answer; looking again may help.
        """
        with running.translated():
            condition = self.condition()
            self.log.info("Waiting for %s", condition)
            try:
                version = condition.look(DatasetHook(self.conn_id).get_session().catalog)
            except DatasetError as error:
                if not error.retryable:
                    raise
                self.log.warning("%s; looking again in %s s", error.message, self.poke_interval)
                return PokeReturnValue(is_done=False)
        if version is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._take(facts(version)))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, JsonValue]:  # Any: JSON
        """Takes what the trigger found.

        Raises:
            AirflowFailException: It found that the version can't come.
        """
        if "error" in event:
            raise AirflowFailException(event["error"])
        return self._take(dict(event["version"]))

    def _take(self, found: dict[str, JsonValue]) -> dict[str, JsonValue]:
        self.found_version = str(found["version_id"])
        self.log.info("Found %s/%s@%s", found["project"], found["name"], found["version"])
        return found
