"""A Python function that is at hand (not named as `module:function`) as a dataset: what both decorators build on.

`function_build` turns it into requests and is pure; `run_function_build` runs them in a session.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from dataset_tasks import model
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue, Reference
from dataset_tasks.ops.references import inputs as read_inputs
from dataset_tasks.ops.references import references
from dataset_tasks.ops.requests import (
    Build,
    BuildResult,
    Create,
    Finalize,
    Publish,
    PublishResult,
    Request,
    Stage,
    Transform,
    Upload,
)
from dataset_tasks.ops.wire import request_from_json, to_json
from dataset_tasks.progress import SILENT, Progress

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: Called as `function(inputs, output, **arguments)`; a dict that it returns becomes metadata of the version.
DatasetFunction: TypeAlias = "Callable[..., Any]"  # Any: users' functions

#: What a dataset function gets before its own arguments: read-only folders by name, and the folder to write to.
FOLDERS = ("inputs", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionBuild:
    """What is to be run: the build, then the publish (None: the version stays unpublished).

    `functions` goes to `Session.run`. `publish.ref` is to be replaced by the version that the build gives.
    """

    build: Build
    functions: Mapping[str, DatasetFunction]
    publish: Publish | None = None


def function_build(
    dataset: str,
    function: DatasetFunction,
    *,
    inputs: object = None,
    parents: object = (),
    previous: bool = False,
    arguments: Mapping[str, JsonValue] | None = None,
    check: Mapping[str, JsonValue] | None = None,
    publish: bool = False,
    alias: str | None = None,
    tags: tuple[str, ...] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    code_version: str | None = None,
    always: bool = False,
    dataset_path: str | None = None,
    store: str | None = None,
    catalog_id: str | None = None,
) -> FunctionBuild:
    """The requests that make the next version of a dataset out of what a function writes.

    Args:
        dataset: `project/name`.
        function: See `DatasetFunction`.
        inputs: Versions it reads, as `dataset_tasks.ops.references.Inputs`.
        parents: References whose content the version inherits; the last wins.
        previous: Whether it starts from the content of the dataset's last good version.
        arguments: The function's own keyword arguments, JSON values; part of what decides "unchanged".
        check: Gates on the content: the fields of a `Check`, such as `{"min_files": 1}`.
        publish: Whether the version is published.
        alias: A name that points at the version once it is published; publishes too.
        tags: Of the version.
        description: Of the version.
        metadata: Of the version.
        code_version: Stands for the function's source in its fingerprint.
        always: Whether the function runs also when everything it reads is unchanged.
        dataset_path: Folder of the version that takes what the function writes.
        store: URL of the store; default the session's.
        catalog_id: Catalog that results given as references must come from.

    Raises:
        InvalidArgumentError: The dataset, a reference, an argument or a gate is not what it should be, or the
            function can't be called with the arguments.
        WrongCatalogError: A result given as a reference comes from another catalog.

    >>> def features(inputs, output): ...
    >>> work = function_build("crm/features", features, inputs={"orders": "crm/orders@published"})
    >>> [stage.id for stage in work.build.stages]
    ['features.create', 'features.transform', 'features.upload', 'features.finalize']
    """
    project, name = dataset_parts(dataset)
    given = dict(arguments or {})
    _check_call(function, given, dataset)
    draft = f"step:{name}.create"
    call = _call_text(function)
    transform = Transform(
        ref=draft,
        call=call,
        arguments=given,
        code_version=code_version,
        always=always,
        dataset_path=dataset_path,
    )
    create = Create(
        name=name,
        project=project,
        parents=references(parents, catalog_id=catalog_id),
        inputs=read_inputs(inputs, catalog_id=catalog_id),
        previous=previous,
        tags=tags,
        description=description,
        metadata=dict(metadata or {}),
        store=store,
        skip_unchanged=True,
        recipe=_recipe(transform),
    )
    requests: dict[str, Request] = {"create": create, "transform": transform}
    if check is not None:
        requests["check"] = request_from_json({**check, "verb": "check", "ref": draft})
    requests |= {"upload": Upload(ref=draft), "finalize": Finalize(ref=draft)}
    return FunctionBuild(
        build=Build(stages=tuple(Stage(id=f"{name}.{verb}", request=one) for verb, one in requests.items())),
        functions={call: function},
        publish=Publish(ref=f"step:{name}.build", alias=alias) if publish or alias else None,
    )


def run_function_build(
    session: Session,
    work: FunctionBuild,
    *,
    key: str,
    origin: Mapping[str, JsonValue],
    progress: Progress = SILENT,
) -> tuple[BuildResult, PublishResult | None]:
    """Makes the version, then publishes the one that stands, also when that is an earlier one not published yet.

    Args:
        session: Where.
        work: What `function_build` gave.
        key: Operation key of the whole, stable over retries.
        origin: Provenance, kept on the version.
        progress: Is told about long work.

    Raises:
        DatasetError: As the operations say; a function that raised is a `TransformError`.
    """
    built = cast(
        "BuildResult",
        session.run(work.build, key=key, origin=origin, progress=progress, functions=work.functions),
    )
    if work.publish is None:
        return built, None
    publish = dataclasses.replace(work.publish, ref=built.version_id)
    published = session.run(publish, key=f"{key}/publish", origin=origin, progress=progress)
    return built, cast("PublishResult", published)


def dataset_parts(dataset: str) -> tuple[str, str]:
    """Project and name of `project/name`.

    Raises:
        InvalidArgumentError: It is not that, or a part holds more than letters, digits and `._-`.

    >>> dataset_parts("crm/eu/features")
    ('crm/eu', 'features')
    """
    reference = Reference() if "@" in dataset else Reference.parse(dataset)
    words = [*reference.project.split("/"), reference.name]
    if not all(model.is_dataset_word(word) for word in words):
        raise InvalidArgumentError(
            f"{dataset!r} does not name a dataset", hint="Write `project/name`, letters, digits and `._-` in each part."
        )
    return reference.project, reference.name


def _call_text(function: DatasetFunction) -> str:
    """`file:function`: the same on every worker, however the file was loaded there."""
    return f"{Path(inspect.unwrap(function).__code__.co_filename).stem}:{function.__qualname__}"


def _check_call(function: DatasetFunction, arguments: Mapping[str, JsonValue], dataset: str) -> None:
    if not inspect.isfunction(inspect.unwrap(function)):
        raise InvalidArgumentError(
            f"{dataset}: {function!r} is not a function", hint="Give a function written with `def`."
        )
    shown = function.__qualname__
    try:
        inspect.signature(function).bind({}, "", **arguments)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{dataset}: {shown}(inputs, output{''.join(f', {name}=...' for name in arguments)}) can't be called: {error}",
            hint=f"Write `def {function.__name__}(inputs, output, ...)`: folders to read by name, and one to write to.",
        ) from error


def _recipe(transform: Transform) -> str:
    """Digest of how the function is called; its code is fingerprinted where it runs, its name says nothing."""
    try:
        facts = json.dumps(
            to_json(dataclasses.replace(transform, ref="", call=None)),
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"the arguments {transform.arguments!r} are not JSON values: {error}",
            hint="Pass text, numbers, true and false, lists and mappings; a date as text.",
        ) from error
    return hashlib.sha256(facts.encode()).hexdigest()
