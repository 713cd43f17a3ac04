"""What every request and every result has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The smallest number that a field takes."""

    lowest: int


Count: TypeAlias = Annotated[int, AtLeast(0)]
Positive: TypeAlias = Annotated[int, AtLeast(1)]
Compression: TypeAlias = Literal["deflate", "store"]
OnError: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an operation is asked to do."""

    verb: ClassVar[str]
    once: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an operation did, on which version.

    `unchanged` means that no version was made because `version_id` already holds just that; `why` says it in words.
    """

    catalog_id: str
    version_id: str
    project: str
    name: str
    version: str
    unchanged: bool = False
    why: str = ""
