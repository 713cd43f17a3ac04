"""What is wrong with a spec, collected so that the reader gets all of it in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dataset_tasks.errors import DatasetError, SpecError

#: Line and column, both from 1, as editors count them.
Position: TypeAlias = tuple[int, int]
#: Keys and list indexes that lead from the top of the document to a value.
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and where; `path` is the dotted path in the document, empty for the whole file."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return f"{where}{self.path}: {self.message}" if self.path else where + self.message


@dataclass(slots=True)
class Problems:
    """Collects the problems of one load; `file` is what the reader sees before each position."""

    file: str
    found: list[Problem] = field(default_factory=list)

    def add(self, at: Position, path: Path, message: str) -> None:
        """Takes down one problem."""
        self.found.append(Problem(self.file, at[0], at[1], shown(path), message))

    def within(self, path: Path) -> bool:
        """Whether something at or below a path was found already; what is missing there needs no second message."""
        start = shown(path)
        return any(
            problem.path == start or problem.path.startswith((start + ".", start + "[")) for problem in self.found
        )

    def __bool__(self) -> bool:
        return bool(self.found)


def spec_error(file: str, found: Iterable[Problem]) -> SpecError:
    """The error that carries all problems, in the order of their places, each once."""
    lines = tuple(dict.fromkeys(str(problem) for problem in sorted(found)))
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return SpecError(
        "\n  ".join((f"{file} has {count}:", *lines)),
        problems=lines,
        hint="Mend the lines above; nothing was compiled or run.",
    )


def shown(path: Path) -> str:
    """The path as readers write it.

    >>> shown(("datasets", "training", "parents", 0))
    'datasets.training.parents[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def in_one_line(error: DatasetError) -> str:
    """Message and hint of an error as one problem.

    >>> in_one_line(DatasetError("'x' is no zone", hint="Write UTC."))
    "'x' is no zone; write UTC"
    """
    hint = error.hint.removesuffix(".")
    return f"{error.message}; {hint[0].lower()}{hint[1:]}" if hint else error.message


def listed(words: Sequence[str], *, most: int = 12) -> str:
    """The words with commas, cut after `most`."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
