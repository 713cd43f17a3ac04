"""How a function becomes a command: the options every command has, and what happens when one fails.

A command is a function whose first parameter is the `Cli`; the rest are its own arguments. It gives its exit code,
None for done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup

from dataset_tasks.cli.failures import in_words, tell
from dataset_tasks.errors import DatasetError, InvalidArgumentError

if TYPE_CHECKING:
    from dataset_tasks.cli.context import Cli

P = ParamSpec("P")
Command = Callable[Concatenate["Cli", P], int | None]


class Exit(IntEnum):
    """What the exit code of a command says."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    NOTHING_TO_DO = 3
    WAITS = 4
    INTERRUPTED = 130
    READER_GONE = 141


_PANEL = "Options of every command"
_COMMON: dict[str, tuple[object, object]] = {
    "as_json": (
        Annotated[
            bool, typer.Option("--json", help="Print one JSON document and nothing else.", rich_help_panel=_PANEL)
        ],
        False,
    ),
    "quiet": (
        Annotated[
            bool,
            typer.Option(
                "--quiet", "-q", help="Print the bare answer: ids, paths. No progress.", rich_help_panel=_PANEL
            ),
        ],
        False,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)],
        False,
    ),
    "home": (
        Annotated[
            str | None,
            typer.Option(
                metavar="FOLDER",
                help="Holds catalog, store and cache.",
                envvar="DATASET_TASKS_HOME",
                rich_help_panel=_PANEL,
            ),
        ],
        None,
    ),
    "catalog": (
        Annotated[
            str | None,
            typer.Option(
                metavar="URL", help="Another catalog.", envvar="DATASET_TASKS_CATALOG_URL", rich_help_panel=_PANEL
            ),
        ],
        None,
    ),
    "store": (
        Annotated[
            str | None,
            typer.Option(
                metavar="URL", help="Where new bytes go.", envvar="DATASET_TASKS_STORE_URL", rich_help_panel=_PANEL
            ),
        ],
        None,
    ),
}


class _Command(TyperCommand):
    """A command whose help shows no type behind a flag: `--apply <bool>` reads as if a value came after it."""

    def get_params(self, ctx: Any) -> list[Any]:  # Any: typer's own click in some releases, the installed one in others
        return _flags_bare(super().get_params(ctx))


class Group(TyperGroup):
    """The same for commands that hold others."""

    def get_params(self, ctx: Any) -> list[Any]:  # Any: as above
        """Its options, flags without a type."""
        return _flags_bare(super().get_params(ctx))


def _flags_bare(parameters: list[Any]) -> list[Any]:  # Any: as above
    for each in parameters:
        if getattr(each, "is_bool_flag", False):
            each.metavar = ""
    return parameters


def command(app: typer.Typer, *names: str, panel: str) -> Callable[[Command[P]], Command[P]]:
    """Registers a function under its names.

    Args:
        app: The program.
        names: The second and later ones are hidden aliases.
        panel: The heading under which help shows the command.
    """

    def register(function: Command[P]) -> Command[P]:
        adapted = _adapted(function)
        # Each paragraph is one line, that the terminal's width alone breaks.
        text = "\n\n".join(part.replace("\n", " ") for part in (inspect.getdoc(function) or "").split("\n\n"))
        for position, name in enumerate(names):
            app.command(name, cls=_Command, help=text, hidden=position > 0, rich_help_panel=panel)(adapted)
        return function

    return register


def _adapted(function: Command[P]) -> Callable[..., int]:
    """The function as typer wants it: its own parameters, then the common ones, seen in `__signature__`."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(name, keyword, default=default, annotation=hint) for name, (hint, default) in _COMMON.items()
    ]

    def adapted(**given: object) -> int:
        from dataset_tasks.cli.context import Cli

        shared = {name: given.pop(name) for name in _COMMON}
        cli = Cli(**shared)  # type: ignore[arg-type]  # typer has read each by its hint in _COMMON
        return execute(cli, lambda: function(cli, **given))  # type: ignore[arg-type, call-arg]  # read by its signature

    adapted.__name__ = function.__name__
    adapted.__doc__ = function.__doc__
    parameters = [p.replace(kind=keyword) for p in own] + common
    adapted.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    adapted.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
    return adapted


def execute(cli: Cli, work: Callable[[], int | None]) -> int:
    """Runs a command to its exit code; what fails on purpose is told in words."""
    with cli.out.guarded():
        try:
            code = work() or Exit.DONE
            cli.out.flush()
        except KeyboardInterrupt:
            cli.out.failure("interrupted", "Nothing is left half done: run the same command again to go on.")
            if cli.as_json:
                cli.out.document({"error": "interrupted"})
            return Exit.INTERRUPTED
        except BrokenPipeError:  # `| head` has seen enough
            return Exit.READER_GONE
        except (DatasetError, OSError) as error:
            tell(cli.out, error, debug=cli.debug)
            if cli.as_json:
                cli.out.document(in_words(error).to_json())  # type: ignore[arg-type]  # errors hold JSON values only
            return Exit.WRONG_USE if isinstance(error, InvalidArgumentError) else Exit.FAILED
    return int(code)
