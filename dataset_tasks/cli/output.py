"""What the command writes and where: answers on stdout, everything else on stderr.

Names, paths and messages are data: control characters in them are shown as escapes, and rich never reads markup
from them. Under `--json` one document goes to stdout; whatever else is printed there, by a transform or the program
it starts, is sent to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import IO, TYPE_CHECKING, TypeAlias

from dataset_tasks.model import JsonValue

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dataset_tasks.cli.fitting import Fitted

#: Width of tables that nobody looks at in a terminal: nothing is cut or wrapped.
PIPE_WIDTH = 10_000
_STDOUT, _STDERR = 1, 2
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}

Document: TypeAlias = "Mapping[str, JsonValue]"


def shown(text: str, *, keep: str = "") -> str:
    r"""The text with every control, direction-changing and unpaired character as an escape.

    >>> shown("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class Output:
    """The two streams of one command.

    Args:
        as_json: One JSON document on stdout, and nothing else there.
        quiet: Only the answer itself: an id, a folder, a path a line.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._stdout: IO[str] = sys.stdout

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Under `--json` keeps stdout for the document alone: also file descriptor 1, which child programs inherit."""
        if not self.as_json:
            yield
            return
        with _descriptor_to_stderr() as kept, contextlib.redirect_stdout(sys.stderr):
            if kept is None:  # stdout is no file of the system, as in a notebook or under a test's capture
                yield
                return
            self._stdout = os.fdopen(kept, "w", encoding="utf-8")
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # told already, when it is not the reader that has gone
                    self._stdout.close()

    # --- stdout

    @cached_property
    def console(self) -> Console:
        """Where tables and trees go; made only when one is shown."""
        return _console(self._stdout)

    def line(self, text: str = "") -> None:
        """One line of the answer, as it is: the caller has passed its data through `shown`."""
        self._stdout.write(f"{text}\n")

    def show(self, *renderables: RenderableType) -> None:
        """Rich tables, trees and texts."""
        self._stdout.flush()
        for renderable in renderables:
            self.console.print(renderable)

    def show_fitted(self, fitted: Fitted) -> None:
        """A table as `fitting` made it; a remark names what it leaves out."""
        table, left_out = fitted
        self.show(table)
        if left_out:
            self.note(f"no room for: {', '.join(left_out)}; a wider terminal shows them, or --json")

    def document(self, value: Document) -> None:
        """The JSON document of the command."""
        json.dump(value, self._stdout, indent=2)
        self._stdout.write("\n")

    def stream(self, head: Document, key: str, items: Iterable[Document]) -> None:
        """One JSON document with a long array in it, an element a line, none of it held in memory."""
        opening = json.dumps(head)[:-1]
        self._stdout.write(f"{opening}{', ' if head else ''}{json.dumps(key)}: [")
        for number, item in enumerate(items):
            self._stdout.write(("," if number else "") + "\n" + json.dumps(item))
        self._stdout.write("\n]}\n")

    def flush(self) -> None:
        """Hands everything on; a reader that has gone shows here."""
        self._stdout.flush()

    # --- stderr

    @cached_property
    def errors(self) -> Console:
        """Where progress, remarks and errors go."""
        return _console(sys.stderr)

    def note(self, text: str) -> None:
        """A remark beside the answer."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")

    def failure(self, message: str, hint: str = "") -> None:
        """One error in words."""
        sys.stderr.write(f"{_red('error:')} {shown(message, keep=_LAYOUT)}\n")
        if hint:
            sys.stderr.write(f" {_dim('hint:')} {shown(hint, keep=_LAYOUT)}\n")


@contextlib.contextmanager
def _descriptor_to_stderr() -> Iterator[int | None]:
    """Sends descriptor 1 to stderr meanwhile; gives a new descriptor of where it led, if `sys.stdout` writes there."""
    sys.stdout.flush()
    is_plain = _descriptor(sys.stdout) == _STDOUT
    try:
        before = os.dup(_STDOUT)
    except OSError:  # closed
        yield None
        return
    os.dup2(_STDERR, _STDOUT)
    try:
        yield os.dup(before) if is_plain else None
    finally:
        os.dup2(before, _STDOUT)
        os.close(before)


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


_LAYOUT = "\n\t"


def _console(stream: IO[str]) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def _styled(code: str, text: str) -> str:
    plain = not sys.stderr.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def _red(text: str) -> str:
    return _styled("1;31", text)


def _dim(text: str) -> str:
    return _styled("2", text)
