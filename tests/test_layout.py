"""What holds for the whole source: small modules and functions, no swallowed errors, entry points that load."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dataset_tasks", "airflow_provider", "prefect_blocks")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
#: Lines of code: without docstrings, comments and blank lines.
LONGEST_MODULE = 450
LONGEST_FUNCTION = 75

modules = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


@modules
def test_no_module_is_too_long(module: Path) -> None:
    assert len(_code_lines(module)) <= LONGEST_MODULE


@modules
def test_no_function_is_too_long(module: Path) -> None:
    code = _code_lines(module)
    lengths = {
        node.name: len(code & set(range(node.lineno, (node.end_lineno or node.lineno) + 1)))
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@modules
def test_no_error_is_swallowed_whole(module: Path) -> None:
    lines = module.read_text(encoding="utf-8").splitlines()
    blanket = [handler.lineno for handler in _blanket_handlers(_tree(module)) if not _raises(handler)]
    unexplained = [line for line in blanket if not re.search(r"# noqa: BLE001  # \S", lines[line - 1])]
    assert unexplained == [], "a blanket except that neither raises nor says where the error goes"


def test_a_swallowed_error_would_be_seen() -> None:
    tree = ast.parse("try:\n    f()\nexcept Exception as error:\n    print(error)\n")
    assert [_raises(handler) for handler in _blanket_handlers(tree)] == [False]


def test_the_entry_points_load() -> None:
    groups = ("console_scripts", "apache_airflow_provider", "airflow.plugins", "prefect.collections")
    own = [point for group in groups for point in entry_points(group=group) if point.value.split(".")[0] in PACKAGES]
    assert {point.group for point in own} >= {"console_scripts", "apache_airflow_provider", "prefect.collections"}
    for point in own:
        point.load()


def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def _code_lines(module: Path) -> set[int]:
    text = module.read_text(encoding="utf-8")
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in empty:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            docstring = node.body[0]
            code -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return code


def _blanket_handlers(tree: ast.Module) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and (
            node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        ):
            yield node


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))
