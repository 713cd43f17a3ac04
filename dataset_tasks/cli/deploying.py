"""`dataset-tasks deploy`: hands a spec to an orchestrator that takes deployments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.specs import PANEL, Profile
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue

if TYPE_CHECKING:
    from dataset_tasks.spec.plan import Plan

#: Entry points of functions that deploy, named after the orchestrator.
GROUP: Final = "dataset_tasks.deploy"


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    command(app, "deploy", panel=PANEL)(deploy)


def deploy(
    cli: Cli,
    spec: opt.Spec,
    to: Annotated[str, typer.Option("--to", metavar="prefect", help="The orchestrator.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the deployment. Default: the spec's.")
    ] = None,
    work_pool: Annotated[
        str | None,
        typer.Option("--work-pool", metavar="POOL", help="Its workers run it; without one this process serves it."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="The Python file that loads the spec; written if missing."),
    ] = None,
    param: opt.Params = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not begin the schedule yet.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many runs at a time.")
    ] = None,
    profile: Profile = None,
) -> None:
    """Deploy a spec with its schedule: to a work pool, or served by this process until it is ended."""
    from dataset_tasks.cli.compiling import compiled_file, variable_of
    from dataset_tasks.spec.compiler import compile_spec  # pulls in pydantic and YAML, also for `--help`

    found = next(iter(entry_points(group=GROUP, name=to)), None)
    if found is None:
        known = ", ".join(sorted({each.name for each in entry_points(group=GROUP)}))
        raise InvalidArgumentError(
            f"--to {to!r} takes no deployments",
            hint=f"Deploy to {known}; for Airflow write a DAG file: `dataset-tasks compile SPEC --to airflow`.",
        )
    plan = compile_spec(spec, profile=profile, check_sources=False)
    place = file or os.path.join(os.path.dirname(plan.source), f"{Path(plan.source).stem}_flow.py")
    if not os.path.exists(place):
        Path(place).write_text(compiled_file(plan, to, place))
        cli.out.note(f"wrote {shown(place)}")
    made = _function(found)(
        plan,
        place,
        variable=variable_of(plan),
        name=name,
        work_pool=work_pool,
        parameters=_parameters(plan, opt.texts(param, "--param")),
        paused=paused,
        limit=limit,
    )
    if cli.as_json:
        cli.out.document(
            {
                "flow": made.flow,
                "deployment": made.deployment,
                "work_pool": made.work_pool,
                "id": made.id,
                "file": place,
            }
        )
    elif made.id is not None:
        cli.out.line(f"deployed {shown(made.flow)}/{shown(made.deployment)} to work pool {shown(made.work_pool or '')}")


def _function(found: EntryPoint) -> Callable[..., Any]:  # Any: as the plug-in's function says
    try:
        function: Callable[..., Any] = found.load()
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"deploying to {found.name} needs {error.name}, which is not installed",
            hint=f"pip install 'dataset-tasks[{found.name}]'",
        ) from error
    return function


def _parameters(plan: Plan, given: Mapping[str, str]) -> dict[str, JsonValue]:
    """The values that a deployment fixes; runs by hand may be asked for the others, runs of a schedule can't."""
    from dataset_tasks.spec.params import check_params

    known = plan
    if plan.schedule is None:
        asked_later = tuple(one for one in plan.params if one.name in given or not one.required)
        unknown = {one.name for one in plan.params} - {one.name for one in asked_later}
        known = replace(plan, params=asked_later) if unknown else plan
    checked = check_params(known, dict(given))
    return {name: checked[name] for name in given}
