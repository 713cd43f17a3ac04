"""A plan in words and pictures: text, Mermaid, DOT, SVG, JSON. Pure: it reads the plan and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final, Literal, TypeAlias, assert_never, cast, get_args

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue, asset_uri
from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    AnyRequest,
    Approve,
    Build,
    Check,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Request,
    Squash,
    SyncFolder,
    Transform,
    Upload,
    Verify,
)
from dataset_tasks.ops.wire import to_json
from dataset_tasks.spec.graph import EdgeKind, Graph, Node, graph_of
from dataset_tasks.spec.plan import Plan, PlannedDataset, Schedule, Step
from dataset_tasks.spec.svg import draw

Form: TypeAlias = Literal["text", "mermaid", "dot", "svg", "json"]


def explain(plan: Plan, form: Form = "text") -> str:
    """The plan in one of its forms, ending without a line break.

    Raises:
        InvalidArgumentError: There is no such form.
    """
    match form:
        case "text":
            return "\n".join(_text(plan))
        case "mermaid":
            return "\n".join(_mermaid(plan))
        case "dot":
            return "\n".join(_dot(plan))
        case "svg":
            return draw(graph_of(plan), {node.id: _caption(node) for node in graph_of(plan).nodes})
        case "json":
            return json.dumps(plan_to_json(plan), indent=2)
        case _:
            raise InvalidArgumentError(f"no form {form!r}", hint=f"Forms: {', '.join(get_args(Form))}.")


# --- words -----------------------------------------------------------------------------------------------------------


def _text(plan: Plan) -> Iterator[str]:
    yield f"{plan.name}: {plan.description}" if plan.description else plan.name
    yield f"  runs {_when(plan.schedule)}"
    for param in plan.params:
        value = "must be given" if param.required else f"{json.dumps(param.default)} unless given"
        yield f"  param {param.name} ({param.type}): {value}" + (f"; {param.description}" if param.description else "")
    graph = graph_of(plan)
    steps = {step.id: step for step in plan.steps}
    for dataset in plan.datasets:
        yield ""
        yield _headline(dataset, graph)
        for step_id in dataset.steps:
            yield from _step_lines(steps[step_id])


def _when(schedule: Schedule | None) -> str:
    if schedule is None:
        return "by hand"
    if schedule.cron is not None:
        when = f"at {schedule.cron} ({schedule.timezone})"
    elif schedule.every is not None:
        when = f"every {duration(schedule.every)}"
    else:
        when = f"after a new version of {' or '.join(schedule.after)} is published"
    start = f", from {schedule.start}" if schedule.start else ""
    return when + start + (", catching up" if schedule.catchup else "")


def duration(seconds: float) -> str:
    """A number of seconds as the spec writes durations.

    >>> duration(5400)
    '1h30m'
    """
    text = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, size)
        text += f"{count:.0f}{unit}" if count else ""
    return text + (f"{seconds:g}s" if seconds or not text else "")


_VERBS: Final[Mapping[EdgeKind, str]] = {"parent": "inherits", "input": "reads", "squash": "squashes"}


def _headline(dataset: PlannedDataset, graph: Graph) -> str:
    above = graph.above(f"d_{dataset.key}")
    parts = [
        f"{verb} {', '.join(label for label, held in above if held == kind)}"
        for kind, verb in _VERBS.items()
        if any(held == kind for _, held in above)
    ]
    return f"{dataset.key} ({dataset.project}/{dataset.name})" + (f" {'; '.join(parts)}" if parts else "")


def _step_lines(step: Step) -> Iterator[str]:
    tries = f", {step.retries} retries" if step.retries else ""
    limit = f", at most {duration(step.timeout)}" if step.timeout is not None else ""
    if isinstance(step.request, Build):
        yield f"  {step.id}{tries}{limit}"
        for stage in step.request.stages:
            yield f"    {describe(stage.request)}"
    else:
        yield f"  {step.id}: {describe(step.request)}{tries}{limit}"


def describe(request: Request) -> str:
    """What a request does, in a few words."""
    known = cast("AnyRequest", request)
    match known:
        case Create():
            return "create a draft" + (", starting from the last version" if known.previous else "")
        case AddFiles():
            return f"add {known.path}{_only(known.wildcard)}{_under(known.dataset_path)}"
        case AddExternal():
            return f"link to {', '.join(known.urls)}{_only(known.wildcard)}{_under(known.dataset_path)}"
        case SyncFolder():
            return f"sync with {known.path}{_only(known.wildcard)}{_under(known.dataset_path)}"
        case RemoveFiles():
            return f"remove {'everything' if known.patterns is None else ', '.join(known.patterns)}"
        case Transform():
            return f"transform with {known.call or ' '.join(known.run or ())}"
        case Check():
            return f"check {', '.join(_gates(known))}" + (" (warns only)" if known.severity == "warn" else "")
        case Upload():
            return "upload" + (", uncompressed" if known.compression == "store" else "")
        case Finalize():
            return "finalize"
        case Build():
            return "build: " + ", ".join(describe(stage.request) for stage in known.stages)
        case Approve():
            who = f" of {', '.join(known.by)}" if known.by else ""
            limit = f" within {duration(known.timeout)}, else {known.otherwise}" if known.timeout is not None else ""
            return f"ask for approval{who}{limit}"
        case Publish():
            return "publish" + (f" as {known.alias}" if known.alias else "")
        case Squash():
            return f"squash into {known.project}/{known.name}"
        case Verify():
            return "verify " + ("sizes" if known.mode == "size" else "content")
        case GetCopy():
            return f"copy to {known.target or 'the cache'}"
        case Delete():
            return f"delete {known.ref}"
        case _:
            assert_never(known)


def _only(patterns: tuple[str, ...] | None) -> str:
    return f" ({', '.join(patterns)})" if patterns else ""


def _under(folder: str | None) -> str:
    return f" into {folder}" if folder else ""


def _gates(check: Check) -> Iterator[str]:
    for name in ("min_files", "max_files", "min_bytes", "max_change"):
        value = getattr(check, name)
        if value is not None:
            yield f"{name} {value}"
    yield from (f"{table.files} against {table.schema}" for table in check.tables)
    if check.call is not None:
        yield check.call


# --- pictures --------------------------------------------------------------------------------------------------------


def _caption(node: Node) -> tuple[str, ...]:
    """The lines in the box of a node."""
    if node.dataset is None:
        return (node.label,)
    lines = [node.label]
    full = f"{node.dataset.project}/{node.dataset.name}"
    lines.append(full)
    if node.dataset.publish_step is not None:
        lines.append("published" if node.dataset.approve_step is None else "published when approved")
    return tuple(lines)


def _mermaid(plan: Plan) -> Iterator[str]:
    graph = graph_of(plan)
    yield "flowchart LR"
    for node in graph.nodes:
        caption = "<br/>".join(_mermaid_text(line) for line in _caption(node))
        left, right = ("[", "]") if node.dataset else ("[(", ")]")
        yield f'  {node.id}{left}"{caption}"{right}'
    arrows: Mapping[EdgeKind, str] = {"parent": "-->", "input": "-.->", "squash": "==>"}
    for edge in graph.edges:
        yield f"  {edge.source} {arrows[edge.kind]} {edge.target}"


def _mermaid_text(text: str) -> str:
    return escape(text, quote=False).replace('"', "#quot;")


def _dot(plan: Plan) -> Iterator[str]:
    graph = graph_of(plan)
    yield f"digraph {_dot_text(plan.name)} {{"
    yield "  rankdir=LR; node [shape=box, fontname=sans];"
    for node in graph.nodes:
        shape = "" if node.dataset else ", shape=cylinder"
        yield f"  {node.id} [label={_dot_text(chr(10).join(_caption(node)))}{shape}];"
    styles: Mapping[EdgeKind, str] = {"parent": "", "input": " [style=dashed]", "squash": " [style=bold]"}
    for edge in graph.edges:
        yield f"  {edge.source} -> {edge.target}{styles[edge.kind]};"
    yield "}"


def _dot_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# --- values ----------------------------------------------------------------------------------------------------------


def plan_to_json(plan: Plan) -> dict[str, JsonValue]:
    """The plan as JSON; requests as `wire.to_json` writes them, durations in seconds."""
    return {
        "name": plan.name,
        "description": plan.description,
        "source": plan.source,
        "digest": plan.digest,
        "project": plan.project,
        "profile": plan.profile,
        "store": plan.store,
        "connection": plan.connection,
        "schedule": None if plan.schedule is None else _schedule_json(plan.schedule),
        "params": [
            {
                "name": param.name,
                "type": param.type,
                "required": param.required,
                "default": param.default,
                "description": param.description,
            }
            for param in plan.params
        ],
        "airflow": dict(plan.airflow),
        "prefect": dict(plan.prefect),
        "datasets": [_dataset_json(dataset) for dataset in plan.datasets],
        "steps": [
            {
                "id": step.id,
                "dataset": step.dataset,
                "needs": list(step.needs),
                "retries": step.retries,
                "retry_delay": step.retry_delay,
                "timeout": step.timeout,
                "request": to_json(step.request),
            }
            for step in plan.steps
        ],
    }


def _schedule_json(schedule: Schedule) -> dict[str, JsonValue]:
    return {
        "cron": schedule.cron,
        "every": schedule.every,
        "after": list(schedule.after),
        "timezone": schedule.timezone,
        "start": schedule.start,
        "catchup": schedule.catchup,
    }


def _dataset_json(dataset: PlannedDataset) -> dict[str, JsonValue]:
    return {
        "key": dataset.key,
        "project": dataset.project,
        "name": dataset.name,
        "asset": asset_uri(dataset.project, dataset.name),
        "description": dataset.description,
        "doc": dataset.doc,
        "steps": list(dataset.steps),
        "version_step": dataset.version_step,
        "last_step": dataset.last_step,
        "approve_step": dataset.approve_step,
        "publish_step": dataset.publish_step,
        "parents": list(dataset.parents),
        "inputs": list(dataset.inputs),
        "partition": dataset.partition,
        "connection": dataset.connection,
        "airflow": dict(dataset.airflow),
        "prefect": dict(dataset.prefect),
    }
