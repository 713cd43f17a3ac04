"""Arguments that several commands take, and how their texts are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, TypeAlias

import typer

from dataset_tasks.cli import completing
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Input, JsonValue
from dataset_tasks.ops import references

Ref: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="REF",
        help="The version: `project/name@1.0.0`, `@latest`, `@published`, `@alias` or an id. Default: the last one used.",
        show_default=False,
        autocompletion=completing.references,
    ),
]
Id: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="REF",
        help="The version, as an option. Default: the last one used.",
        show_default=False,
        autocompletion=completing.references,
    ),
]
Name: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="PROJECT/NAME", help="The dataset that gets a new version.", autocompletion=completing.datasets
    ),
]
Project: TypeAlias = Annotated[
    str | None,
    typer.Option("--project", metavar="PROJECT", help="The project, when NAME holds none.", show_default=False),
]
Parents: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--parent",
        "-p",
        metavar="REF",
        help="Inherit this version's content; repeat, the last wins.",
        show_default=False,
        autocompletion=completing.references,
    ),
]
Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]REF",
        help="Read this version in the transform; its content is not inherited. Repeat for more.",
        show_default=False,
    ),
]
Previous: TypeAlias = Annotated[
    bool, typer.Option("--previous", help="Start from the dataset's own last good version.")
]
Tags: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", "-t", metavar="TAG", help="Repeat for more.", show_default=False)
]
Description: TypeAlias = Annotated[str, typer.Option("--description", metavar="TEXT", help="What the version is.")]
Metadata: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--meta", metavar="KEY=VALUE", help="Metadata; VALUE is read as JSON where it is JSON.", show_default=False
    ),
]
Partition: TypeAlias = Annotated[
    str | None,
    typer.Option("--partition", metavar="TEXT", help="The part of the dataset this version is.", show_default=False),
]
Wildcards: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--wildcard", "-w", metavar="GLOB", help="Only files that match; repeat.", show_default=False),
]
Excludes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude", "-x", metavar="GLOB", help="No files that match; repeat.", show_default=False),
]
DatasetPath: TypeAlias = Annotated[
    str | None,
    typer.Option("--dataset-path", metavar="FOLDER", help="Where in the dataset they land.", show_default=False),
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-workers", metavar="N", min=1, help="Threads. Default: by the machine.", show_default=False),
]
Connection: TypeAlias = Annotated[
    str | None,
    typer.Option("--connection", metavar="NAME", help="Connection through which a URL is read.", show_default=False),
]
Call: TypeAlias = Annotated[
    str | None,
    typer.Option("--call", metavar="MODULE:FUNCTION", help="A Python function to call.", show_default=False),
]
Program: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="COMMAND", help="A program with its arguments, split as a shell would, run without one."
    ),
]
Arguments: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="KEY=VALUE",
        help="An argument of the function; VALUE as JSON where it is.",
        show_default=False,
    ),
]
Spec: TypeAlias = Annotated[str, typer.Argument(metavar="SPEC", help="The YAML file of the lineage spec.")]
Params: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="A parameter of the spec; repeat.", show_default=False),
]
Select: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        "-s",
        metavar="KEY",
        help="Only these datasets; `raw+` takes what is below it, `+raw` what is above.",
    ),
]
Exclude: TypeAlias = Annotated[
    list[str] | None, typer.Option("--exclude", "-x", metavar="KEY", help="Not these; written like --select.")
]
Date: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--date", metavar="DATE", help="The instant of the run in ISO form; gives its window.", show_default=False
    ),
]


def dataset_name(text: str, project: str | None) -> tuple[str | None, str]:
    """Project and name of `PROJECT/NAME`, or of a bare name beside `--project`.

    Raises:
        InvalidArgumentError: The project is given twice.

    >>> dataset_name("nyc/raw", None)
    ('nyc', 'raw')
    """
    before, slash, name = text.rpartition("/")
    if slash and project is not None:
        raise InvalidArgumentError(
            f"the project is given twice: in {text!r} and as --project {project!r}", hint="Leave one of them out."
        )
    return (before if slash else project), name


def pairs(items: Iterable[str] | None, option: str) -> dict[str, JsonValue]:
    """The values of a `KEY=VALUE` option; what reads as JSON is JSON, everything else text.

    Raises:
        InvalidArgumentError: An item has no `=`, or a key comes twice.
    """
    return {key: _value(value) for key, value in texts(items, option).items()}


def texts(items: Iterable[str] | None, option: str) -> dict[str, str]:
    """The values of a `KEY=VALUE` option as they are.

    Raises:
        InvalidArgumentError: As `pairs`.
    """
    out: dict[str, str] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidArgumentError(f"{option} {item!r} is not KEY=VALUE", hint=f"Write {option} carrier=AA.")
        if key in out:
            raise InvalidArgumentError(f"{option} {key!r} is given twice", hint="Leave one of them out.")
        out[key] = value
    return out


def _value(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value


def inputs(items: Iterable[str] | None) -> tuple[Input, ...]:
    """The inputs of `NAME=REF` or `REF` items; without a name it is the last part of the reference.

    Raises:
        InvalidArgumentError: An id has no name, or two inputs have the same.
    """
    split = [item.partition("=") for item in items or ()]
    return references.inputs([Input(name=name, ref=ref) if equals else name for name, equals, ref in split])


def seconds(text: str, option: str) -> float:
    """The seconds of a duration such as `30s`, `2h`, `7d`.

    Raises:
        InvalidArgumentError: It is none.
    """
    from dataset_tasks.spec.schema import seconds as read  # pulls in pydantic

    try:
        return read(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{option}: {error}", hint="Write a number and s, m, h, d or w: 12h, 7d.") from error
