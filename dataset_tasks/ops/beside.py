"""Which files a user's module is made of: what it imports from its own folder, and what that imports, by their texts."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path


def imported(module_name: str, file: Path, root: Path, follows: Callable[[str], bool]) -> dict[str, Path]:
    """The modules below a folder that a module needs, near and far: their names and files, sorted; itself left out.

    Nothing is run: what is imported by a name that is made up at run time is not seen.

    Args:
        module_name: Of the module.
        file: Of the module.
        root: The folder that its name starts at.
        follows: Whether imports of a top-level name are looked for there.
    """
    found: dict[str, Path] = {}
    todo = [(module_name, file)]
    while todo:
        name, place = todo.pop()
        for each in _imports(name, place):
            parts = each.split(".")
            for end in range(1, len(parts) + 1):
                dotted = ".".join(parts[:end])
                there = None if dotted in found or dotted == module_name else _file(root, parts[:end])
                if there is not None and follows(parts[0]):
                    found[dotted] = there
                    todo.append((dotted, there))
    return dict(sorted(found.items()))


def _imports(name: str, file: Path) -> Iterator[str]:
    """Names that may be modules: those imported, and what is imported from them; and the packages the module is in."""
    try:
        tree = ast.parse(file.read_bytes()) if file.suffix == ".py" else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):  # whoever loads it is told
        return
    yield name
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _file(root: Path, parts: list[str]) -> Path | None:
    stem = root.joinpath(*parts)
    return next((file for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if file.is_file()), None)
