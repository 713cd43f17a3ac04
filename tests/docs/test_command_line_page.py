"""The page on the command line names every verb, and every option of those that have no page of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dataset_tasks.cli.command import _COMMON
from dataset_tasks.cli.main import app
from dataset_tasks.ops.requests import OPERATIONS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _commands(
    group: Any, before: str = ""
) -> Iterator[tuple[str, Any]]:  # Any: typer's own click, or the installed one
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def _words(*pages: str) -> set[str]:
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in pages)
    return {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in (quoted, *quoted.split())}


def test_every_verb_stands_on_the_page() -> None:
    named = _words("command-line.md")
    assert [verb for verb, _ in _commands(typer.main.get_command(app())) if verb not in named] == []


def test_every_option_of_a_verb_without_a_page_is_told() -> None:
    named = {"": _words("command-line.md"), "catalog": _words("command-line.md", "catalog.md")}
    missing = []
    for verb, command in _commands(typer.main.get_command(app())):
        if verb in OPERATIONS or verb in {"reject", "close"}:  # on the page of the operation: test_operation_pages
            continue
        own = [p for p in command.params if p.param_type_name == "option" and p.name not in {*_COMMON, "help"}]
        told = named.get(verb.split()[0], named[""])
        missing += [f"{verb} {flag}" for p in own for flag in (*p.opts, *p.secondary_opts) if flag not in told]
    assert missing == []
