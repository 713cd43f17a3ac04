"""Commands on a lineage spec: lint, plan, run, backfill, graph, compile, schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from dataset_tasks.cli import options as opt
from dataset_tasks.cli.command import command
from dataset_tasks.cli.context import Cli
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.spec.explain import Form
    from dataset_tasks.spec.plan import Plan

PANEL = "Lineage specs"

Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="A profile of dataset-tasks.yaml.", envvar="DATASET_TASKS_PROFILE"),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.", show_default=False)
]

From = Annotated[
    str | None,
    typer.Option("--from", metavar="DATE", help="Where to begin. Default: the schedule's start.", show_default=False),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="DATE", help="Where to end, not included. Default: now.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    command(app, "lint", panel=PANEL)(lint)
    command(app, "plan", panel=PANEL)(plan)
    command(app, "run", panel=PANEL)(run)
    command(app, "backfill", panel=PANEL)(backfill)
    command(app, "graph", panel=PANEL)(graph)
    command(app, "compile", panel=PANEL)(compile_)
    command(app, "schema", panel=PANEL)(schema)


def lint(cli: Cli, spec: opt.Spec, profile: Profile = None) -> None:
    """Check a spec; every problem is shown in one go."""
    from dataset_tasks.spec.notes import notes

    found = compiled(spec, profile)
    said = notes(found)
    if cli.as_json:
        cli.out.document(
            {
                "spec": found.source,
                "datasets": len(found.datasets),
                "steps": len(found.steps),
                "problems": [],
                "notes": list(said),
            }
        )
    elif not cli.quiet:
        for note in said:
            cli.out.note(f"{shown(spec)}: {shown(note)}")
        cli.out.line(
            f"{shown(spec)}: {count(len(found.datasets), 'dataset')}, {count(len(found.steps), 'step')}, no problem"
        )


def plan(
    cli: Cli,
    spec: opt.Spec,
    param: opt.Params = None,
    date: opt.Date = None,
    profile: Profile = None,
) -> int:
    """Show what a run would do, per dataset, and why; nothing is written."""
    from dataset_tasks.cli.preview import show_preview

    return show_preview(cli, compiled(spec, profile), opt.texts(param, "--param"), date)


def run(
    cli: Cli,
    spec: opt.Spec,
    select: opt.Select = None,
    exclude: opt.Exclude = None,
    param: opt.Params = None,
    date: opt.Date = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Steps at one time.")] = 2,
    profile: Profile = None,
) -> int:
    """Run a spec here: make what changed, in order; exit code 3 when all is unchanged."""
    from dataset_tasks.cli.running import Wanted, run_spec

    wanted = Wanted(
        select=tuple(select or ()),
        exclude=tuple(exclude or ()),
        params=opt.texts(param, "--param"),
        date=date,
        jobs=jobs,
    )
    return run_spec(cli, compiled(spec, profile), wanted)


def backfill(
    cli: Cli,
    spec: opt.Spec,
    first: From = None,
    last: To = None,
    param: opt.Params = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Windows at one time.")] = 2,
    profile: Profile = None,
) -> int:
    """Run the windows of a spec's schedule that are missing; exit code 3 when none is."""
    from dataset_tasks.cli.filling import fill_spec

    return fill_spec(cli, compiled(spec, profile), first, last, opt.texts(param, "--param"), jobs)


def graph(
    cli: Cli,
    spec: opt.Spec,
    form: Annotated[
        str, typer.Option("--format", "-f", metavar="FORM", help="text, mermaid, dot, svg or json.")
    ] = "text",
    output: Output = None,
    profile: Profile = None,
) -> None:
    """Draw the lineage of a spec as text, Mermaid, DOT, SVG or JSON."""
    from dataset_tasks.spec.explain import Form, explain

    if form not in get_args(Form):
        raise InvalidArgumentError(f"--format {form!r} is unknown", hint=f"Write one of {', '.join(get_args(Form))}.")
    chosen: Form = "json" if cli.as_json else form  # type: ignore[assignment]  # one of them, as just seen
    _give(cli, explain(compiled(spec, profile, check_sources=False), chosen) + "\n", output, overwrite=True)


def compile_(
    cli: Cli,
    spec: opt.Spec,
    to: Annotated[str, typer.Option("--to", metavar="airflow|prefect", help="What the file is for.")],
    output: Output = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    profile: Profile = None,
) -> None:
    """Write a small Python file that loads a spec as an Airflow DAG or a Prefect flow."""
    from dataset_tasks.cli.compiling import compiled_file

    text = compiled_file(compiled(spec, profile, check_sources=False), to, output)
    if cli.as_json and output is None:
        cli.out.document({"to": to, "text": text})
        return
    _give(cli, text, output, overwrite=overwrite)
    if cli.as_json:
        cli.out.document({"to": to, "file": output})


def _give(cli: Cli, text: str, output: str | None, *, overwrite: bool) -> None:
    """To stdout, or to a file."""
    if output is None:
        cli.out.line(shown(text.removesuffix("\n"), keep="\n"))
        return
    try:
        with open(output, "w" if overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise InvalidArgumentError(f"{output!r} is there already", hint="Replace it with --overwrite.") from error
    cli.out.note(f"wrote {shown(output)}")


def schema(cli: Cli) -> None:
    """Print the JSON Schema of specs, for editors."""
    from dataset_tasks.spec.schema import json_schema

    cli.out.line(json.dumps(json_schema(), indent=2))


def compiled(spec: str, profile: str | None, *, check_sources: bool = True) -> Plan:
    """The plan of a spec, for commands.

    Raises:
        SpecError: The file has problems.
    """
    from dataset_tasks.spec.compiler import compile_spec

    return compile_spec(spec, profile=profile, check_sources=check_sources)
