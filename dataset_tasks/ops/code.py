"""Users' code: finding the function that a `module:function` names, and telling one state of it from another."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from dataset_tasks.errors import InvalidArgumentError

Function: TypeAlias = Callable[..., Any]  # Any: what users write


def find(call: str, folder: str | None, functions: Mapping[str, Function]) -> Function:
    """The function that `call` names: a live one, else imported.

    A package that Python can't find is looked for beside `folder` (a spec's) and above, the nearest first.

    Raises:
        InvalidArgumentError: There is no such module or function.
    """
    if call in functions:
        return functions[call]
    module_name, colon, name = call.partition(":")
    if not colon or not module_name or not name:
        raise InvalidArgumentError(f"{call!r} names no function", hint="Write it as `package.module:function`.")
    _make_importable(module_name.partition(".")[0], folder)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InvalidArgumentError(
            f"there is no module {module_name!r} for {call!r}",
            hint="Install it where the pipeline runs, or keep it beside the spec or in a folder above it.",
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise InvalidArgumentError(f"module {module_name!r} has no function {name!r}", hint="Check its name.")
    function: Function = found
    return function


def _make_importable(package: str, folder: str | None) -> None:
    if folder is None or package in sys.modules or importlib.util.find_spec(package) is not None:
        return
    start = Path(folder).absolute()
    for place in (start, *start.parents):
        if (place / package).is_dir() or (place / f"{package}.py").is_file():
            sys.path.append(str(place))
            importlib.invalidate_caches()
            return


def digest(function: Function, *, live: bool = False) -> str:
    """SHA-256 (hex) of the code behind a function: its module's source and its distribution's version.

    Of a live function (one in a DAG file or a notebook) only its own source counts, so that a change beside it makes
    nothing again; without any source, its byte code.
    """
    sha = hashlib.sha256()
    target = inspect.unwrap(function)
    sha.update((b"" if live else _module_source(target)) or _own_source(target))
    module = getattr(target, "__module__", None) or ""
    known = "" if live else f"{module}\0{_distribution_version(module)}"
    sha.update(f"\0{getattr(target, '__qualname__', '')}\0{known}".encode())
    return sha.hexdigest()


def program_digest(argv: Sequence[str], folder: str | None) -> str:
    """SHA-256 (hex) of an argument vector and of those of its words that are files, looked up beside `folder`."""
    sha = hashlib.sha256()
    for word in argv:
        sha.update(f"{word}\0".encode())
        file = Path(folder or ".", word)
        if file.is_file():
            with file.open("rb") as opened:
                sha.update(hashlib.file_digest(opened, "sha256").digest())
    return sha.hexdigest()


def _module_source(function: Function) -> bytes:
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__" or not Path(file).is_file():
        return b""
    return Path(file).read_bytes()


def _own_source(function: Function) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return code.co_code + repr(code.co_consts).encode() if code is not None else repr(function).encode()


def _distribution_version(module: str) -> str:
    names = _distributions().get(module.partition(".")[0])
    return importlib.metadata.version(names[0]) if names else ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Package to distributions; reads the metadata of everything installed, so once a process."""
    return importlib.metadata.packages_distributions()
