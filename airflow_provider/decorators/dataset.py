"""`@task.dataset("crm/features", inputs={"orders": "crm/orders@published"})`.

The function gets read-only folders and an empty one to write to. What it writes becomes the next version of the dataset:
one that appears whole or not at all, is not made when nothing changed, and knows the exact versions it was made from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

from airflow_provider import assets, running
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.operators.base import StoppableOperator
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.function_build import function_build, run_function_build
from dataset_tasks.ops.references import Inputs, Ref

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue


class DecoratedDatasetOperator(DecoratedOperator, StoppableOperator):
    """The operator behind `@task.dataset`; see `dataset_task` for its arguments."""

    custom_operator_name = "@task.dataset"
    template_fields: Sequence[str] = (
        "op_kwargs", "conn_id", "dataset", "inputs", "parents", "alias", "check", "tags", "description", "metadata",
        "code_version", "dataset_path", "store",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "op_kwargs": "py", "inputs": "json", "check": "json", "metadata": "json",
    }  # fmt: skip
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],  # Any: the user's function
        dataset: str,
        inputs: Inputs | None = None,
        parents: Sequence[Ref] | Ref = (),
        previous: bool = False,
        check: Mapping[str, JsonValue] | None = None,
        publish: bool = False,
        alias: str | None = None,
        tags: Sequence[str] = (),
        description: str = "",
        metadata: Mapping[str, JsonValue] | None = None,
        code_version: str | None = None,
        always: bool = False,
        dataset_path: str | None = None,
        store: str | None = None,
        skip_when_unchanged: bool = False,
        conn_id: str = DEFAULT_CONN_ID,
        op_args: Sequence[object] = (),
        op_kwargs: Mapping[str, object] | None = None,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        _check_call(python_callable, op_args, op_kwargs or {})
        # Airflow holds the call against the signature here, long before there are folders: these stand for them.
        super().__init__(python_callable=python_callable, op_args=(None, None), op_kwargs=op_kwargs, **kwargs)
        self.dataset = dataset
        self.inputs = inputs
        self.parents = parents
        self.previous = previous
        self.check = check
        self.publish = publish
        self.alias = alias
        self.tags = tags
        self.description = description
        self.metadata = metadata
        self.code_version = code_version
        self.always = always
        self.dataset_path = dataset_path
        self.store = store
        self.skip_when_unchanged = skip_when_unchanged
        self.conn_id = conn_id
        if (publish or alias) and not _is_template(dataset):
            asset = assets.dataset_asset(dataset)
            if assets.declared(asset, self.outlets) is None:  # theirs may have watchers
                self.add_outlets([asset])

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Makes the version, and publishes it where that was asked for.

        Raises:
            AirflowFailException: It failed in a way that a retry does not mend.
            AirflowSkipException: Nothing changed, and `skip_when_unchanged` is set.
            DatasetError: It failed, the function itself perhaps; a retry may succeed.
        """
        with running.translated():
            session = DatasetHook(self.conn_id).get_session()
            work = function_build(
                self.dataset,
                self.python_callable,
                inputs=self.inputs,
                parents=self.parents,
                previous=self.previous,
                arguments=dict(self.op_kwargs),
                check=self.check,
                publish=self.publish,
                alias=self.alias,
                tags=(self.tags,) if isinstance(self.tags, str) else tuple(self.tags),
                description=self.description,
                metadata=self.metadata or {},
                code_version=self.code_version,
                always=self.always,
                dataset_path=self.dataset_path,
                store=self.store,
                catalog_id=session.catalog.id,
            )
            built, published = run_function_build(
                session,
                work,
                key=running.operation_key(context),
                origin=running.origin(context),
                progress=running.progress_of(context),
            )
        self.remember(session, "build", built)
        if published is not None:
            assets.record_publish(published, self.outlets, context)
        payload = running.small(built)
        if self.skip_when_unchanged and built.unchanged and (published is None or published.unchanged):
            running.skip(payload, context)
        return payload


def dataset_task(
    dataset: str,
    *,
    inputs: Inputs | None = None,
    parents: Sequence[Ref] | Ref = (),
    previous: bool = False,
    check: Mapping[str, JsonValue] | None = None,
    publish: bool = False,
    alias: str | None = None,
    tags: Sequence[str] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    code_version: str | None = None,
    always: bool = False,
    dataset_path: str | None = None,
    store: str | None = None,
    skip_when_unchanged: bool = False,
    conn_id: str = DEFAULT_CONN_ID,
    **kwargs: Any,  # Any: BaseOperator's own arguments
) -> TaskDecorator:
    """Makes a task of a function whose output folder is the next version of a dataset: `@task.dataset(...)`.

    The function is called as `function(inputs, output, **arguments)`: `inputs` maps names to read-only folders, `output`
    is an empty folder to write to, the arguments are those the task is called with in the DAG (JSON, by keyword,
    templated). A dict it returns becomes metadata. It does not run when its inputs, arguments and code are those of the
    last good version. Killed and tried again it starts over with an empty folder; nobody sees what was left.

    Args:
        dataset: `project/name`.
        inputs: Versions to read: references, or results of other dataset tasks; a list or a mapping by name.
        parents: Versions whose content the new one starts with, the last wins.
        previous: Start with the content of the dataset's own last good version.
        check: Gates on the content before the version is final, such as `{"min_files": 1}`.
        publish: Publish the version, and emit the asset event of `dataset://project/name` for it.
        alias: A name that moves to the published version, such as `prod`; publishes too.
        tags: Labels to find it by.
        description: What it is.
        metadata: JSON kept with it.
        code_version: Stands for the function's source when deciding whether something changed.
        always: Run the function also when everything it reads is unchanged.
        dataset_path: Folder of the version that takes what the function writes.
        store: URL of another store than the session's.
        skip_when_unchanged: End as skipped, result pushed, when nothing changed.
        conn_id: Airflow connection; see `DatasetHook`.
        kwargs: Arguments of Airflow's `BaseOperator`, such as `task_id` and `retries`.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`.

    Example::

        @task.dataset("crm/features", inputs={"orders": "crm/orders@published"})
        def features(inputs, output, top: int = 10):
            for file in inputs["orders"].glob("*.csv"):
                (output / file.name).write_text(...)
    """
    if not isinstance(dataset, str):
        raise InvalidArgumentError(
            "@task.dataset needs the dataset it makes", hint='Write @task.dataset("project/name") above the function.'
        )
    if not _is_template(dataset):
        asset = assets.dataset_asset(dataset)
        given = kwargs.get("outlets") or []
        given = [*given] if isinstance(given, list | tuple) else [given]
        if publish or alias:
            # Here too: Airflow reads the outlets of a mapped task without making the operator.
            kwargs["outlets"] = given if assets.declared(asset, given) is not None else [*given, asset]
    return task_decorator_factory(
        multiple_outputs=True,
        decorated_operator_class=DecoratedDatasetOperator,
        dataset=dataset,
        inputs=inputs,
        parents=parents,
        previous=previous,
        check=check,
        publish=publish,
        alias=alias,
        tags=tags,
        description=description,
        metadata=metadata,
        code_version=code_version,
        always=always,
        dataset_path=dataset_path,
        store=store,
        skip_when_unchanged=skip_when_unchanged,
        conn_id=conn_id,
        **kwargs,
    )


def _check_call(function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    if args:
        raise InvalidArgumentError(
            f"{function.__name__} was called with positional arguments",
            hint="The first two are its folders of inputs and output; pass the others by keyword.",
        )
    asked = [
        name for name in inspect.signature(function).parameters if name in KNOWN_CONTEXT_KEYS and name not in kwargs
    ]
    if asked:
        raise InvalidArgumentError(
            f"{function.__name__} asks for {', '.join(asked)} of the task's context, which is no part of what a version "
            "is made from",
            hint=f'Pass what it needs as an argument, such as {asked[0]}="{{{{ {asked[0]} }}}}".',
        )


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
