"""The `dataset-tasks` program: its commands, and what happens when it is used wrongly."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from dataset_tasks.cli import (
    approvals,
    catalog,
    catalogs,
    collecting,
    deploying,
    drafts,
    files,
    labels,
    specs,
    versions,
)
from dataset_tasks.cli.command import Exit, Group
from dataset_tasks.cli.failures import tell
from dataset_tasks.cli.output import Output
from dataset_tasks.errors import InvalidArgumentError

#: What a wrong call raises. typer brings a click of its own in some releases and takes the installed one in others.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def app() -> typer.Typer:
    """The program with all its commands."""
    program = typer.Typer(
        name="dataset-tasks",
        cls=Group,
        help="Versioned datasets: make, read, compare and publish versions; run lineage specs.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use or bad spec, 3 nothing to do, 4 waits for an answer.",
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback()(_program)
    for group in (specs, deploying, drafts, versions, approvals, catalog, files, labels, catalogs, collecting):
        group.register(program)
    return program


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"dataset-tasks {version('dataset-tasks')}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program and leaves with its exit code.

    A short program spends a quarter of its time on collecting garbage that isn't there, half of that at its end: what
    is imported stays, so it is looked at less often, and at the end not at all.
    """
    gc.set_threshold(100_000, 20, 100)
    signal.signal(signal.SIGTERM, _on_terminate)
    code = run(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()
    sys.exit(code)


def _on_terminate(number: int, frame: FrameType | None) -> None:
    """Stops as Ctrl-C would, also where that is ignored, as in the background of a script."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    if not callable(on_interrupt):
        raise KeyboardInterrupt
    on_interrupt(number, frame)


def run(arguments: Sequence[str]) -> int:
    """Runs one call to its exit code.

    Args:
        arguments: What stands after the program's name.
    """
    # closed by whoever started the program, as `>&-` does
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app()(list(arguments), prog_name="dataset-tasks", standalone_mode=False)
    except _UsageError as error:
        return _wrong_use(error, arguments)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return int(code or Exit.DONE)


def _wrong_use(error: Exception, arguments: Sequence[str]) -> int:
    """Says what is wrong with the call and where its help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dataset-tasks"
    message: str = error.format_message()  # type: ignore[attr-defined]  # every click exception has it
    message = message.replace("Value error, ", "").replace("Input should be ", "it must be ")  # pydantic's words
    if context is not None and message == "Missing command.":
        with contextlib.redirect_stdout(sys.stderr):  # with rich, asking for help prints it
            print(context.get_help().rstrip())
        return Exit.WRONG_USE
    problem = InvalidArgumentError(message, hint=f"See `{path} --help`.", kind="usage")
    with (out := Output(as_json="--json" in arguments)).guarded():
        tell(out, problem, debug=False)
        if out.as_json:
            out.document(problem.to_json())  # type: ignore[arg-type]  # errors hold JSON values only
    return Exit.WRONG_USE
