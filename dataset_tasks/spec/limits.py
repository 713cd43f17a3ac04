"""What a field of numbers or flags takes, where a placeholder that is its whole value stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from dataset_tasks.model import JsonValue

Kind: TypeAlias = Literal["integer", "number", "boolean"]

_WORDS: Final[Mapping[Kind, str]] = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {"integer": (int,), "number": (int, float), "boolean": (bool,)}
#: Types of parameters whose every value is of the kind.
_PARAMS: Final[Mapping[Kind, tuple[str, ...]]] = {"integer": ("int",), "number": ("float", "int"), "boolean": ("bool",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The values of one field: of a kind, not below `least`, not above `most`, greater than `above`."""

    kind: Kind
    least: float | None = None
    most: float | None = None
    above: float | None = None

    @property
    def expected(self) -> str:
        """What the field takes, in words."""
        ends = (("at least", self.least), ("at most", self.most))
        closed = " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)
        above = "" if self.above is None else f" above {self.above:g}"
        return f"{_WORDS[self.kind]}{' of ' * bool(closed)}{closed}{above}"

    @property
    def ends(self) -> dict[str, float]:
        """The ends as JSON Schema says them."""
        ends = {"minimum": self.least, "maximum": self.most, "exclusiveMinimum": self.above}
        return {word: end for word, end in ends.items() if end is not None}

    @property
    def param_type(self) -> str:
        """The type that a parameter needs to fill the field."""
        return _PARAMS[self.kind][0]

    def suits(self, param_type: str) -> bool:
        """Whether values of a parameter of that type are of the kind."""
        return param_type in _PARAMS[self.kind]

    def holds(self, value: JsonValue) -> bool:
        """Whether the field can take the value."""
        kinds = _TYPES[self.kind]
        if not isinstance(value, kinds) or isinstance(value, bool) is not (bool in kinds):
            return False
        assert isinstance(value, (int, float))
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A field that a parameter fills in: what it takes, its path and where it stands in the file."""

    bounds: Bounds
    path: str
    line: int
    column: int
