"""Takes problems down at the place in the file that they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.document import Document, Map
from dataset_tasks.spec.problems import Path, Position, Problems, in_one_line


class Places:
    """A document and its problems."""

    def __init__(self, document: Document, problems: Problems) -> None:
        self.document, self.problems = document, problems

    def at_value(self, path: Path, message: str) -> None:
        """A problem of the value at a path."""
        at, shown, _ = self.document.locate(path)
        self.problems.add(at, shown, message)

    def in_value(self, path: Path, parts: Sequence[str], message: str) -> None:
        """A problem of a part of the text at a path: the last of `parts`, which stand in the text in this order."""
        at, shown, _ = self.document.locate(path)
        self.problems.add(self.document.find(at, parts), shown, message)

    def at_key(self, path: Path, message: str) -> None:
        """A problem of the last key of a path: it stands in the wrong place, or its value lacks something."""
        self.problems.add(self.position_of_key(path), path, message)

    def attempt(self, path: Path, check: Callable[..., object], *given: object) -> None:
        """Runs a check of the value at a path; what it raises is a problem."""
        try:
            check(*given)
        except InvalidArgumentError as error:
            self.at_value(path, in_one_line(error))

    def within(self, path: Path) -> bool:
        """Whether something at or below a path was found already."""
        return self.problems.within(path)

    def position_of_key(self, path: Path) -> Position:
        """Where the last key of a path stands; the nearest thing above it when it is not there."""
        holder = self.document.locate(path[:-1])[2]
        if isinstance(holder, Map) and path[-1] in holder.keys_at:
            return holder.keys_at[str(path[-1])]
        return self.document.locate(path)[0]
