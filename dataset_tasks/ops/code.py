"""Users' code: finding the function that a `module:function` names, and telling one state of it from another."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.beside import imported

Function: TypeAlias = Callable[..., Any]  # Any: what users write

#: Folders beside specs that were put on `sys.path`, and what the modules found there were when they were loaded.
_places: list[str] = []
_sources: dict[str, tuple[str, bytes]] = {}
_importing = threading.RLock()


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
    try:
        with _importing:
            module = _module(module_name, folder)
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


def place_of(call: str, folder: str | None, *, here: bool) -> Path | None:
    """The folder in which Python has to look for the module of a call.

    Args:
        call: As `find` takes it.
        folder: As `find` takes it.
        here: Whether this interpreter's own is meant, so that another process finds the very same; else what lies
            beside `folder` or above, None where nothing does.

    Raises:
        InvalidArgumentError: As `find`, with `here`.
    """
    module_name = call.partition(":")[0]
    if not here:
        found = _file_beside(module_name, folder)
        return found[0] if found is not None else None
    find(call, folder, {})
    return next(iter(_roots(module_name)), None)


def _module(module_name: str, folder: str | None) -> ModuleType:
    """Imports a module; one that lies beside a spec anew when it was edited, or when another spec has one of its name.

    Or when that is so of a module beside it that it imports.
    """
    importlib.invalidate_caches()  # a file that was made a moment ago is there
    package = module_name.partition(".")[0]
    beside = None if folder is None or _is_installed(module_name) else _file_beside(module_name, folder)
    if beside is None:
        return import_module(module_name)
    place, file = beside
    _put_first(str(place))
    needed = imported(module_name, file, place, lambda top: top == package or not _is_installed(top))

    def loaded() -> list[str]:
        return list(dict.fromkeys([*_loaded_of(package), *(name for name in needed if name in sys.modules)]))

    if any(_is_stale(name, place) for name in loaded()):
        for name in loaded():
            _forget(name)
    module = import_module(module_name)
    _sources.update({name: _source_of(name) for name in loaded() if name not in _sources or name == module_name})
    return module


def _put_first(place: str) -> None:
    """Has Python look for modules in a folder behind all that is not ours, and before what was put there for other specs."""
    if place in _places:
        _places.remove(place)
        with suppress(ValueError):  # `sys.path` is everybody's: it may have been taken out
            sys.path.remove(place)
    first = next((i for i, each in enumerate(sys.path) if each in _places), len(sys.path))
    sys.path.insert(first, place)
    _places.append(place)


def _is_installed(module_name: str) -> bool:
    """Whether Python finds it without the folders that were added for specs."""
    path = [each for each in sys.path if each not in _places]
    parts = module_name.split(".")
    for at, part in enumerate(parts):
        found = importlib.machinery.PathFinder.find_spec(".".join(parts[: at + 1]), path)
        if found is None:
            return False
        if found.loader is not None:
            return True
        path = [str(Path(each, part)) for each in path]  # mere folders of that name: what counts is a module in them
    return False


def _file_beside(module_name: str, folder: str | None) -> tuple[Path, Path] | None:
    """Where a module lies, beside a spec or in the nearest folder above: the folder to look in, and the module's file.

    A mere folder of its name is none.
    """
    start = Path(folder or ".").absolute()
    suffixes = importlib.machinery.all_suffixes()
    for place in (start, *start.parents):
        stem = place.joinpath(*module_name.split("."))
        for name in ("__init__", ""):
            for suffix in suffixes:
                file = stem / f"{name}{suffix}" if name else stem.with_name(f"{stem.name}{suffix}")
                if file.is_file():
                    return place, file
    return None


def _forget(module_name: str) -> None:
    """Has a module loaded anew, from its file: byte code counts as its own when second and length are the same."""
    file, _ = _source_of(module_name)
    del sys.modules[module_name]
    _sources.pop(module_name, None)
    if file.endswith(".py"):
        with suppress(OSError):
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)


def _loaded_of(package: str) -> list[str]:
    return [name for name in sys.modules if name == package or name.startswith(f"{package}.")]


def _roots(module_name: str) -> tuple[Path, ...]:
    """The folder that Python looked in for a loaded module; several for a mere folder of its name, none when built in."""
    module = sys.modules[module_name]
    folders: list[str] = list(getattr(module, "__path__", ()))
    file = getattr(module, "__file__", None)
    if file is not None:
        folders = [str(Path(file).parent) if folders else file]
    depth = module_name.count(".")
    return tuple(root for each in folders for root in Path(each).parents[depth : depth + 1])


def _source_of(module_name: str) -> tuple[str, bytes]:
    """File and content of a loaded module, as they are now."""
    file = getattr(sys.modules[module_name], "__file__", None)
    return (file, Path(file).read_bytes()) if file is not None and Path(file).is_file() else ("", b"")


def _is_stale(module_name: str, place: Path) -> bool:
    """Whether a loaded module is another spec's, or was edited since it was loaded."""
    file, content = _source_of(module_name)
    roots = _roots(module_name)
    if roots and place not in roots:
        return True
    return _sources.get(module_name, (file, content)) != (file, content)


def digest(function: Function, *, live: bool = False) -> str:
    """SHA-256 (hex) of the code behind a function: its module's source and its distribution's version.

    And the sources of the modules beside its own that it imports, and they; those of installed distributions have versions.
    Of a live function (one in a DAG file or a notebook) only its own source counts, so that a change beside it makes
    nothing again; without any source, its byte code.
    """
    sha = hashlib.sha256()
    target = inspect.unwrap(function)
    sha.update((b"" if live else _module_source(target)) or _own_source(target))
    module = getattr(target, "__module__", None) or ""
    known = "" if live else f"{module}\0{_distribution_version(module)}"
    sha.update(f"\0{getattr(target, '__qualname__', '')}\0{known}".encode())
    for name, file in () if live else _needed_by(target):
        sha.update(f"\0{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()


def _needed_by(function: Function) -> Iterable[tuple[str, Path]]:
    """Name and file of what the module of a function imports from its own folder, if that is no folder of installed ones."""
    facts = getattr(function, "__globals__", {})
    name, file = facts.get("__name__", ""), facts.get("__file__")
    if file is None or name == "__main__" or not Path(file).is_file():
        return ()
    path = Path(file)
    depth = name.count(".") + (path.name == "__init__.py")
    root = path.parents[depth] if depth < len(path.parents) else path.parent
    if {"site-packages", "dist-packages"} & set(root.parts):
        return ()
    top = name.partition(".")[0]
    return imported(name, path, root, lambda each: each == top or each not in _distributions()).items()


def file_digest(call: str, folder: str | None, python: str) -> str:
    """SHA-256 (hex) of the file of a function that another interpreter runs, and of those beside it that it imports.

    They need not be importable here.

    Raises:
        InvalidArgumentError: The file lies neither beside the spec nor in a folder above it.
    """
    module_name = call.partition(":")[0]
    found = _file_beside(module_name, folder)
    if found is not None:
        place, file = found
        sha = hashlib.sha256(f"{call}\0{python}\0".encode() + file.read_bytes())
        for name, each in imported(module_name, file, place, lambda _top: True).items():
            sha.update(f"\0{name}\0".encode() + hashlib.sha256(each.read_bytes()).digest())
        return sha.hexdigest()
    raise InvalidArgumentError(
        f"the file of {call!r} is not beside the spec, so a change of it would not be seen",
        hint=f"Give the transform a code_version, as it runs under {python}.",
    )


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
    """The file that the function came from; its module may have been loaded anew since."""
    facts = getattr(function, "__globals__", {})
    file = facts.get("__file__")
    if file is None or facts.get("__name__") == "__main__" or not Path(file).is_file():
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
