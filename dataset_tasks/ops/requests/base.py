"""What every request and every result has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

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
