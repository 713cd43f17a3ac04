"""The keys of a spec and of `dataset-tasks.yaml`, their types and defaults: the only place that knows pydantic.

One model per mapping of the file; unknown keys are refused. The models say what a key can hold; what several keys say
about each other is in `rules`. Descriptions are what `docs/spec.md` and editors show.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from dataset_tasks.spec.limits import Bounds

_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+\Z")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(text: object) -> float:
    """The seconds of a duration such as `30s`, `2h`, `1h30m`, `1d`.

    Raises:
        ValueError: It is not a duration.

    >>> seconds("1h30m")
    5400.0
    """
    if not isinstance(text, str) or not _DURATION.match(text):
        found = str(text).lower() if isinstance(text, bool) else repr(text)
        raise ValueError(f"expected a duration such as 30s, 15m, 6h or 1d, found {found}")
    return sum((float(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(text)), 0.0)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected 1, found {str(value).lower()}")  # noqa: TRY004  # the validator takes only this
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_WHOLE: Final = re.compile(r"\$\{[^{}]*\}\Z")
_WHOLE_SCHEMA: Final = {"type": "string", "pattern": r"^\$\{[^{}]*\}$"}


def _or_placeholder(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """A placeholder that is the whole value stands for one of the right type, which the run looks at."""
    return value if isinstance(value, str) and _WHOLE.match(value) else read(value)


def _typed(bounds: Bounds) -> tuple[object, ...]:
    """What pydantic and editors hold the value against, or the placeholder that is all of it; and the bounds themselves."""
    written = {"type": bounds.kind, **bounds.ends}
    return (
        Field(ge=bounds.least, le=bounds.most, gt=bounds.above),
        WrapValidator(_or_placeholder),
        WithJsonSchema({"anyOf": [written, _WHOLE_SCHEMA]}),
        bounds,
    )


#: Numbers and flags that may also be a placeholder; a number is at least 0, a positive one at least 1.
Number: TypeAlias = Annotated[int, *_typed(Bounds(kind="integer", least=0))]
Positive: TypeAlias = Annotated[int, *_typed(Bounds(kind="integer", least=1))]
Share: TypeAlias = Annotated[float, *_typed(Bounds(kind="number", least=0, most=1))]
Size: TypeAlias = Annotated[float, *_typed(Bounds(kind="number", above=0))]
Flag: TypeAlias = Annotated[bool, *_typed(Bounds(kind="boolean"))]
Duration: TypeAlias = Annotated[
    float, BeforeValidator(seconds), WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?[smhdw])+$"})
]
OneOrMany: TypeAlias = Annotated[
    list[str],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
#: Any JSON value; not pydantic's own type, whose check would walk what the loader has made JSON already.
Json: TypeAlias = Any


class Part(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Schedule(Part):
    """When a pipeline runs: exactly one of cron, every and after."""

    cron: str | None = Field(default=None, description="Five fields of cron, in the zone of `timezone`.")
    every: Duration | None = Field(default=None, description="A fixed distance, such as `6h`, counted from `start`.")
    after: OneOrMany | None = Field(
        default=None, description="Datasets (`project/name`) whose new published version starts a run."
    )
    timezone: str = Field(default="UTC", description="IANA name of the zone, such as `America/New_York`.")
    start: str | None = Field(
        default=None, description="First day or instant (ISO 8601); needed by `catchup` and `partition`."
    )
    catchup: bool = Field(
        default=False, description="Whether windows between `start` and now that were missed are run."
    )


class Param(Part):
    """One parameter of a run; without `default` it must be given."""

    type: Literal["str", "int", "float", "bool", "list", "dict", "date"] = Field(
        default="str", description="Type of its values."
    )
    default: Json = Field(default=None, description="Value of a run that gives none.")
    description: str = Field(default="", description="What it means.")


class Defaults(Part):
    """What datasets take that don't say otherwise."""

    retries: int | None = Field(default=None, ge=0, le=100, description="How often a failed step is tried again; 0.")
    retry_delay: Duration | None = Field(default=None, description="Wait before the next try; `30s`.")
    timeout: Duration | None = Field(default=None, description="Longest time of one step; none.")
    granularity: Literal["dataset", "operation"] | None = Field(
        default=None, description="`dataset`: create to verify is one step; `operation`: each is its own."
    )
    on_unchanged: Literal["skip", "version"] | None = Field(
        default=None, description="`skip`: no version when nothing changed; `version`: always one."
    )


class Add(Part):
    """Files to add."""

    path: str = Field(description="File or folder, relative to the spec; or `s3://`, `gs://`, `azure://` URL.")
    wildcard: OneOrMany | None = Field(default=None, description="Only files that match one of these patterns.")
    exclude: OneOrMany | None = Field(default=None, description="Not the files that match one of these.")
    local_base_folder: str | None = Field(default=None, description="Paths in the version are relative to this folder.")
    dataset_path: str | None = Field(default=None, description="Folder in the version that takes the files.")
    recursive: Flag = Field(default=True, description="Whether folders inside are taken too.")
    on_error: Literal["raise", "skip"] = Field(
        default="raise", description="What to do about a file that can't be read."
    )
    connection: str | None = Field(default=None, description="Connection through which a URL is read.")


class External(Part):
    """Links to add: files that stay where they are."""

    url: str = Field(
        description="`file://`, `s3://`, `gs://`, `azure://` or `http(s)://` URL of a file, folder or prefix."
    )
    wildcard: OneOrMany | None = Field(default=None, description="Only files that match one of these patterns.")
    dataset_path: str | None = Field(default=None, description="Folder in the version that takes the links.")
    recursive: Flag = Field(default=True, description="Whether folders inside are taken too.")
    connection: str | None = Field(default=None, description="Connection through which the URL is read.")


class Sync(Part):
    """The folder that the version, or its part under `dataset_path`, is made equal to."""

    path: str = Field(description="Folder, relative to the spec; or `s3://`, `gs://`, `azure://` URL.")
    dataset_path: str | None = Field(
        default=None, description="Folder in the version that mirrors it; all of the version."
    )
    wildcard: OneOrMany | None = Field(default=None, description="Only files that match one of these patterns.")
    exclude: OneOrMany | None = Field(default=None, description="Not the files that match one of these.")
    connection: str | None = Field(default=None, description="Connection through which a URL is read.")


class Input(Part):
    """One version that the transform reads."""

    ref: str = Field(description="Key of this spec or a reference.")
    partition: str | None = Field(
        default=None, description="The partition to read of a dataset made elsewhere; any, without it."
    )
    files: OneOrMany | None = Field(default=None, description="Only files that match one of these patterns.")


class Transform(Part):
    """The code that makes content out of the inputs: exactly one of call and run."""

    call: str | None = Field(
        default=None, description="`module:function`, called as `function(inputs, output, **with)`."
    )
    run: list[str] | None = Field(default=None, min_length=1, description="A program and its arguments; no shell.")
    with_: dict[str, Json] = Field(default_factory=dict, alias="with", description="Keyword arguments of `call`.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables and their values.")
    env_from: list[str] = Field(default_factory=list, description="Variables passed on from outside, never recorded.")
    python: str | None = Field(default=None, description="Another interpreter.")
    code_version: str | None = Field(default=None, description="Stands for the code in its fingerprint.")
    always: bool = Field(default=False, description="Run it also when everything it reads is unchanged.")


class Upload(Part):
    """How bytes are stored."""

    compression: Literal["deflate", "store"] = Field(default="deflate", description="How chunks hold their files.")
    chunk_size: Size | None = Field(default=None, description="Size of a chunk in MiB; 128.")
    max_workers: Positive | None = Field(default=None, description="Threads that pack and send; the number of cores.")


class Table(Part):
    """Files to be read as tables and held against a schema."""

    files: str = Field(description="Pattern of the files.")
    schema_: str = Field(alias="schema", description="Pandera schema file, relative to the spec.")


class Check(Part):
    """Gates on the content before the version is final."""

    min_files: Number | None = Field(default=None, description="At least so many files.")
    max_files: Number | None = Field(default=None, description="At most so many files.")
    min_bytes: Number | None = Field(default=None, description="At least so many bytes.")
    max_change: Share | None = Field(
        default=None, description="Share of files that may differ from the version before."
    )
    tables: list[Table] = Field(default_factory=list, description="Tables and their schemas.")
    call: str | None = Field(default=None, description="`module:function` that raises when the content is not good.")
    severity: Literal["error", "warn"] = Field(
        default="error", description="`warn` records what did not hold and goes on."
    )


class Keep(Part):
    """Which versions stay; one stays when any of the keys says so. Read by `gc` only."""

    last: int | None = Field(default=None, ge=1, description="The last so many.")
    published: int | None = Field(default=None, ge=1, description="The last so many that were published.")
    for_: Duration | None = Field(default=None, alias="for", description="Those younger than this, such as `90d`.")


class Approval(Part):
    """Somebody is asked before the version is published."""

    timeout: Duration | None = Field(default=None, description="Time to answer, such as `1d`; no end.")
    otherwise: Literal["reject", "approve"] = Field(
        default="reject", description="The answer when nobody gave one in time."
    )
    by: OneOrMany | None = Field(
        default=None, description="User names of those who may answer; recorded only, outside of Airflow."
    )


def _flag_form(value: object) -> str:
    return "=flag" if isinstance(value, bool) else "=mapping"


ApprovalForm: TypeAlias = Annotated[
    Annotated[bool, Tag("=flag")] | Annotated[Approval, Tag("=mapping")], Discriminator(_flag_form)
]


class Publish(Part):
    """How the version is published."""

    alias: str | None = Field(default=None, description="Name that points at the version from now on.")
    approval: ApprovalForm | None = Field(
        default=None, description="Ask somebody first: `true` or `{timeout, otherwise, by}`."
    )


class Airflow(Part):
    """Options of the Airflow tasks of a dataset; ignored elsewhere."""

    owner: str | None = Field(default=None, description="Owner of the tasks.")
    tags: list[str] | None = Field(default=None, description="Tags of the DAG.")
    pool: str | None = Field(default=None, description="Pool the tasks run in.")
    queue: str | None = Field(default=None, description="Queue of the tasks.")
    priority_weight: int | None = Field(default=None, description="Weight of the tasks.")
    max_active_runs: int | None = Field(default=None, ge=1, description="Runs of the DAG at one time.")
    on_failure_callback: str | None = Field(default=None, description="`module:function` called when a task failed.")


class Prefect(Part):
    """Options of the Prefect tasks of a dataset; ignored elsewhere."""

    tags: list[str] | None = Field(default=None, description="Tags of the tasks.")
    work_pool: str | None = Field(default=None, description="Work pool of the deployment.")
    task_runner: str | None = Field(default=None, description="`module:name` of the task runner.")
    batch: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="With `granularity: operation`: how many adds, or links, one task run takes; 50.",
    )


def _inputs_form(value: object) -> str:
    return "=list" if isinstance(value, list) else "=mapping"


def _input_form(value: object) -> str:
    return "=mapping" if isinstance(value, dict) else "=reference"


PublishForm: TypeAlias = Annotated[
    Annotated[bool, Tag("=flag")] | Annotated[Publish, Tag("=mapping")], Discriminator(_flag_form)
]
InputForm: TypeAlias = Annotated[
    Annotated[str, Tag("=reference")] | Annotated[Input, Tag("=mapping")], Discriminator(_input_form)
]
InputsForm: TypeAlias = Annotated[
    Annotated[list[str], Tag("=list")] | Annotated[dict[str, InputForm], Tag("=mapping")], Discriminator(_inputs_form)
]


def _verify_mode(value: object) -> object:
    return {True: "hash", False: None}[value] if isinstance(value, bool) else value


VerifyForm: TypeAlias = Annotated[
    Literal["hash", "size"] | None,
    BeforeValidator(_verify_mode),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["hash", "size"]}]}),
]


class Dataset(Defaults):
    """One dataset: what its next version holds and how it gets there."""

    name: str | None = Field(default=None, description="Name of the dataset; the key.")
    project: str | None = Field(default=None, description="Project of the dataset; the spec's.")
    description: str = Field(default="", description="Of the versions made.")
    doc: str = Field(default="", description="Markdown that orchestrators show.")
    tags: list[str] = Field(default_factory=list, description="Tags of the versions made.")
    metadata: dict[str, Json] = Field(default_factory=dict, description="Metadata of the versions made.")
    store: str | None = Field(default=None, description="URL of the store; the spec's.")
    connection: str | None = Field(
        default=None, description="Airflow connection, Prefect block or local connection; the spec's."
    )
    parents: list[str] = Field(default_factory=list, description="Keys or references; content inherited, last wins.")
    inputs: InputsForm = Field(default_factory=list, description="Keys or references that the transform reads.")
    previous: bool | None = Field(
        default=None, description="Start from the last good version; true with `sync`, else false."
    )
    add: list[Add] = Field(default_factory=list, description="Files to add.")
    external: list[External] = Field(default_factory=list, description="Links to files that stay where they are.")
    sync: Sync | None = Field(default=None, description="A folder to mirror.")
    remove: OneOrMany | None = Field(default=None, description="Patterns of files to take out, after all else.")
    transform: Transform | None = Field(default=None, description="Code that makes content.")
    squash: OneOrMany | None = Field(default=None, description="Versions to join into one that stands alone.")
    upload: Upload | None = Field(default=None, description="How bytes are stored.")
    check: Check | None = Field(default=None, description="Gates before the version is final.")
    verify: VerifyForm = Field(
        default=None, description="Read the version back from the store: `true` (= `hash`), `hash`, `size`."
    )
    publish: PublishForm | None = Field(default=None, description="Publish the version: `true` or `{alias: name}`.")
    partition: str | None = Field(default=None, description="Text of placeholders; one line of versions per value.")
    keep: Keep | None = Field(default=None, description="Which versions stay; read by `gc` only. All, without it.")
    airflow: Airflow | None = Field(default=None, description="Options for Airflow.")
    prefect: Prefect | None = Field(default=None, description="Options for Prefect.")


class Pipeline(Part):
    """The whole file."""

    version: Annotated[Literal[1], BeforeValidator(_no_boolean)] = Field(description="Version of this language: 1.")
    name: str = Field(description="Name of the pipeline: DAG id and flow name.")
    project: str | None = Field(default=None, description="Project of datasets that name none.")
    description: str = Field(default="", description="What the pipeline is for.")
    schedule: Schedule | None = Field(default=None, description="When it runs; by hand.")
    params: dict[str, Param] = Field(default_factory=dict, description="Parameters of a run.")
    store: str | None = Field(default=None, description="URL of the store; the session's.")
    connection: str | None = Field(default=None, description="Airflow connection, Prefect block or local connection.")
    defaults: Defaults = Field(default_factory=Defaults, description="What datasets take that don't say otherwise.")
    airflow: Airflow | None = Field(default=None, description="Options for Airflow, for the DAG and all datasets.")
    prefect: Prefect | None = Field(default=None, description="Options for Prefect, for the flow and all datasets.")
    datasets: dict[str, Dataset] = Field(min_length=1, description="The datasets by key.")


class Profile(Part):
    """What changes with the place a spec runs in."""

    store: str | None = Field(default=None, description="Replaces the spec's store.")
    connection: str | None = Field(default=None, description="Replaces the spec's connection.")
    project_prefix: str | None = Field(default=None, description="Put before the project of every dataset made.")
    schedule: Schedule | Literal[False] | None = Field(
        default=None, description="Replaces the schedule; `false`: by hand."
    )
    params: dict[str, Json] = Field(default_factory=dict, description="Defaults of parameters.")
    airflow: Airflow | None = Field(default=None, description="Replaces options of the spec.")
    prefect: Prefect | None = Field(default=None, description="Replaces options of the spec.")


class Shared(Part):
    """`dataset-tasks.yaml`, in the spec's folder or above."""

    store: str | None = Field(default=None, description="Store of specs that name none.")
    connection: str | None = Field(default=None, description="Connection of specs that name none.")
    defaults: Defaults = Field(default_factory=Defaults, description="What specs take that don't say otherwise.")
    profiles: dict[str, Profile] = Field(default_factory=dict, description="By name, chosen by DATASET_TASKS_PROFILE.")


def json_schema() -> dict[str, Any]:  # Any: a JSON document
    """The JSON Schema of a spec, for editors."""
    schema = Pipeline.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "dataset-tasks spec, version 1",
    }
