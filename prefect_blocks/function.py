"""`dataset_task`: a function whose output folder becomes the next version of a dataset.

It gets read-only folders and an empty one to write to. What it writes becomes a version that appears whole or not at all,
is not made when nothing changed, and knows the exact versions it was made from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from prefect.tasks import TaskOptions

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.function_build import (
    FOLDERS,
    DatasetFunction,
    dataset_parts,
    function_build,
    run_function_build,
)
from dataset_tasks.ops.references import Inputs, Ref
from prefect_blocks.running import (
    Catalog,
    DatasetTask,
    Json,
    Work,
    dataset_task_options,
    many,
    reported_checks,
    stoppable,
)

#: What every dataset task takes beside the function's own arguments.
_OURS = ("inputs", "catalog", "step")
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def dataset_task(
    dataset: str,
    *,
    inputs: Inputs | None = None,
    parents: Sequence[Ref] | Ref = (),
    previous: bool = False,
    check: Mapping[str, JsonValue] | None = None,
    publish: bool = False,
    alias: str | None = None,
    tags: str | Iterable[str] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    code_version: str | None = None,
    always: bool = False,
    dataset_path: str | None = None,
    store: str | None = None,
    catalog: Catalog = None,
    options: TaskOptions | None = None,
) -> Callable[[DatasetFunction], DatasetTask[..., Json]]:
    """Makes a task of a function that is called as `function(inputs, output, **arguments)`.

    `inputs` maps names to read-only folders, `output` is an empty folder to write to; a dict the function returns becomes
    metadata of the version. It does not run when its inputs, arguments and code are those of the last good version.
    Killed and tried again it starts over with an empty folder; nobody sees what was left.

    The task takes the function's own arguments by keyword (JSON values), and these:

    - `inputs`: versions to read in place of, or beside, those below; results of other tasks, or their futures, too;
    - `catalog`: in place of the one below;
    - `step`: the operation's name within the flow run; see `prefect_blocks.tasks`.

    Args:
        dataset: `project/name`.
        inputs: Versions to read: references or results of tasks; a list, or a mapping by name.
        parents: Versions whose content the new one starts with, the last wins.
        previous: Whether it starts from the content of the dataset's last good version.
        check: Gates on the content, the fields of `check_dataset`: `{"min_files": 1}`.
        publish: Whether the version is published.
        alias: A name that moves with each publish, such as `prod`; publishes too.
        tags: Of the version and of the task.
        description: Of the version.
        metadata: JSON kept with the version.
        code_version: Stands for the code when deciding whether something changed; default the source of its module.
        always: Whether the function runs also when everything it reads is unchanged.
        dataset_path: Folder of the version that takes the output.
        store: URL of the store; default the catalog block's.
        catalog: A block, the name of a saved one, or None: what the environment names.
        options: Of Prefect's `task`, such as `{"retries": 2, "timeout_seconds": 600}`.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`, or the function can't be called like that.

    Example::

        @dataset_task("crm/features", inputs={"orders": "crm/orders@published"})
        def features(inputs, output, top: int = 10):
            for file in inputs["orders"].glob("*.csv"):
                (output / file.name).write_text(...)

        @flow
        def nightly():
            features(top=20)
    """
    if not isinstance(dataset, str):
        raise InvalidArgumentError(
            "dataset_task needs the dataset it makes", hint='Write @dataset_task("project/name") above the function.'
        )
    dataset_parts(dataset)
    of_version = many(tags)

    def decorator(function: DatasetFunction) -> DatasetTask[..., Json]:
        signature = _task_signature(function, dataset)

        def task(**given: Any) -> Json:  # Any: the function's own arguments
            work = Work.on(given.pop("catalog") or catalog, given.pop("step"))
            build = function_build(
                dataset,
                function,
                inputs=_together(inputs, given.pop("inputs")),
                parents=parents,
                previous=previous,
                arguments=given,
                check=check,
                publish=publish,
                alias=alias,
                tags=of_version,
                description=description,
                metadata=metadata,
                code_version=code_version,
                always=always,
                dataset_path=dataset_path,
                store=store,
                catalog_id=work.session.catalog.id,
            )
            with (
                reported_checks(work.session, build.build) as told,
                work.slot(build.build),
                stoppable() as progress,
            ):
                built, published = run_function_build(
                    work.session,
                    build,
                    key=work.key(build.build),
                    origin=work.origin(),
                    progress=progress,
                )
                told(built)
            return work.finish(built, published=published)

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(task, name, getattr(function, name))
        task.__signature__ = signature  # type: ignore[attr-defined]  # what Prefect binds a call to
        own = dataset_task_options(verb="build", name=function.__name__, run_name=f"build {dataset}", tags=of_version)
        return DatasetTask(cast("Callable[..., Json]", task), **(own | (options or {})))

    return decorator


def _task_signature(function: DatasetFunction, dataset: str) -> inspect.Signature:
    """The function's signature without its folders and with what every dataset task takes, all by keyword.

    Raises:
        InvalidArgumentError: The function does not begin with the two folders, is async, or takes a name of ours.
    """
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise InvalidArgumentError(
            f"{dataset}: {function.__qualname__} is asynchronous or a generator",
            hint="Write a plain function; in an async flow call the task with .submit().",
        )
    parameters = list(inspect.signature(function).parameters.values())
    names, own = tuple(one.name for one in parameters[:2]), parameters[2:]
    if names != FOLDERS:
        raise InvalidArgumentError(
            f"{dataset}: the first two arguments of {function.__qualname__} are {names}, expected {FOLDERS}",
            hint=f"Write `def {function.__name__}(inputs, output, ...)`: folders to read by name, and one to write to.",
        )
    refused = [one.name for one in own if one.kind not in _BY_KEYWORD or one.name in _OURS]
    if refused:
        raise InvalidArgumentError(
            f"{dataset}: {function.__qualname__} can't have arguments {', '.join(map(repr, refused))}",
            hint=f"Give each argument a name of its own other than {', '.join(_OURS)}; they are kept with the version.",
        )
    arguments = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    ours = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in _OURS]
    return inspect.Signature([*arguments, *ours])


def _together(declared: Inputs | None, given: Inputs | None) -> Inputs | None:
    """The inputs of a call: those given win over those declared, by name."""
    if not given:
        return declared
    if not declared:
        return given
    if isinstance(declared, Mapping) and isinstance(given, Mapping):
        return {**declared, **given}
    return given
