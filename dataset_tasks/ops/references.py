"""What people write for versions in their code, made into what requests hold: shared by both plug-ins. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from dataset_tasks.errors import InvalidArgumentError, WrongCatalogError
from dataset_tasks.model import Input, Reference

#: A version: a reference such as `crm/orders@published`, or the JSON result of an operation (`{"version_id": ...}`).
Ref: TypeAlias = "str | Mapping[str, object]"
#: Versions to read: a list (named by the last part of each), or a mapping from name to `Ref` or `{"ref", "files"}`.
Inputs: TypeAlias = "Sequence[Ref] | Mapping[str, Ref]"


def reference(value: object, *, catalog_id: str | None = None) -> str:
    """The reference as text.

    Args:
        value: Text, or the result of an operation.
        catalog_id: The catalog that the reference will be used in; None when that is not known yet.

    Raises:
        InvalidArgumentError: It is neither.
        WrongCatalogError: The result was made in another catalog.

    >>> reference({"version_id": "0123456789abcdef0123456789abcdef", "catalog_id": "c"})
    '0123456789abcdef0123456789abcdef'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(version_id := value.get("version_id"), str):
        made_in = value.get("catalog_id")
        if catalog_id is not None and made_in is not None and made_in != catalog_id:
            raise WrongCatalogError(
                f"version {version_id} was made in catalog {made_in}, this task works on {catalog_id}",
                hint="Give both tasks the same catalog.",
            )
        return version_id
    raise InvalidArgumentError(
        f"{value!r} is not a reference to a version",
        hint="Give an id, `project/name@selector`, or the result of a dataset task.",
    )


def references(values: object, *, catalog_id: str | None = None) -> tuple[str, ...]:
    """A list of references, or one alone, as a tuple of texts.

    Raises:
        InvalidArgumentError, WrongCatalogError: As `reference`.
    """
    if isinstance(values, Sequence) and not isinstance(values, str):
        return tuple(reference(value, catalog_id=catalog_id) for value in values)
    return () if values is None else (reference(values, catalog_id=catalog_id),)


def inputs(values: object, *, catalog_id: str | None = None) -> tuple[Input, ...]:
    """The versions a transform reads, under the names it knows them by.

    Args:
        values: `Inputs`, or None for none.
        catalog_id: As in `reference`.

    Raises:
        InvalidArgumentError: Two get the same name, an id has none, or a value can't be read.
        WrongCatalogError: As `reference`.

    >>> [one.name for one in inputs(["crm/orders@published", "crm/visits"])]
    ['orders', 'visits']
    """
    if values is None:
        return ()
    if isinstance(values, Mapping):
        return tuple(_input(str(name), value, catalog_id) for name, value in values.items())
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidArgumentError(
            f"inputs are a list or a mapping of references, found {values!r}", hint='inputs={"orders": "crm/orders"}'
        )
    named = [_input(_own_name(value), value, catalog_id) for value in values]
    names = [one.name for one in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidArgumentError(
            f"two inputs are named {', '.join(map(repr, twice))}",
            hint='Name them yourself: inputs={"old": "...", "new": "..."}.',
        )
    return tuple(named)


def _input(name: str, value: object, catalog_id: str | None) -> Input:
    match value:
        case Input():
            return value
        case {"ref": ref, **rest}:
            files = cast("str | Sequence[str]", rest.get("files") or ())
            patterns = (files,) if isinstance(files, str) else tuple(files)
            return Input(name=name, ref=reference(ref, catalog_id=catalog_id), files=patterns)
        case _:
            return Input(name=name, ref=reference(value, catalog_id=catalog_id))


def _own_name(value: object) -> str:
    match value:
        case Input(name=name):
            return name
        case {"ref": ref}:
            return _own_name(ref)
        case {"version_id": str(), "name": str(name)}:
            return name
        case str() if name := Reference.parse(value).name:
            return name
    raise InvalidArgumentError(f"the input {value!r} has no name", hint='Name it yourself: inputs={"orders": "..."}.')
