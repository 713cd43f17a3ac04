"""Strict YAML: text in, plain values with their positions out.

Only what JSON can hold is read, by the core rules of YAML 1.2: `on` and `no` are text, dates are text, `true` and
`false` alone are booleans. What other readers take differently, or what hides a mistake, is refused: duplicate
keys, merge keys, tags, keys that are not text, aliases that refer to themselves or multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from dataset_tasks.spec.problems import Path, Position, Problems

MAX_BYTES: Final = 8 * 2**20
MAX_DEPTH: Final = 40
MAX_NODES: Final = 1_000_000
#: How many values aliases may repeat, all together.
MAX_ALIASED: Final = 10_000

Value: TypeAlias = "str | int | float | bool | Map | Seq | None"


class Map(dict[str, Any]):  # Any: a Value; a recursive alias can't be a base class
    """A mapping that knows where its keys and values stand."""

    __slots__ = ("at", "keys_at", "values_at")

    def __init__(self, at: Position) -> None:
        super().__init__()
        self.at = at
        self.keys_at: dict[str, Position] = {}
        self.values_at: dict[str, Position] = {}


class Seq(list[Any]):  # Any: as Map
    """A list that knows where its items stand."""

    __slots__ = ("at", "items_at", "numbers")

    def __init__(self, at: Position) -> None:
        super().__init__()
        self.at = at
        self.items_at: list[Position] = []
        #: The index each item has in the file; differs from its place once a bad item was taken out.
        self.numbers: list[int] = []

    def remove_item(self, place: int) -> None:
        """Takes one item out; the others keep their positions and numbers."""
        del self[place], self.items_at[place], self.numbers[place]


@dataclass(slots=True)
class Document:
    """A file that was read: its value, what plain scalars that are not text looked like, and the text itself."""

    root: Value
    written: dict[Position, str] = field(default_factory=dict)
    text: str = ""

    def find(self, at: Position, parts: Sequence[str]) -> Position:
        """Where the last of some texts stands, which follow each other from a place on; the place, if they don't.

        An alias stands for text that was written elsewhere, and an escape hides it: then the place is all there is to say.
        """
        lines = _LINE_BREAK.split(self.text)
        line, column = at[0] - 1, at[1] - 1
        if lines[line][column : column + 1] == "*":
            return at
        found = at
        for part in parts:
            while (place := lines[line].find(part, column)) < 0:
                line, column = line + 1, 0
                if line == len(lines):
                    return at
            found = (line + 1, place + 1)
            column = place + len(part)
        return found

    def locate(self, path: Path) -> tuple[Position, Path, Value]:
        """Where a path leads: position, the path with the file's own indexes, and the value.

        Parts that the document does not have are passed over (they come from the schema's inner names), so a path to a
        missing key gives the mapping that lacks it.
        """
        at: Position = (1, 1)
        taken: list[str | int] = []
        here: Value = self.root
        for holder, part in self.steps(path):
            if isinstance(holder, Seq):
                at = holder.items_at[int(part)]
                taken.append(holder.numbers[int(part)])
                here = holder[int(part)]
            else:
                at = holder.values_at[str(part)]
                taken.append(part)
                here = holder[str(part)]
        return at, tuple(taken), here

    def steps(self, path: Path) -> Iterator[tuple[Map | Seq, str | int]]:
        """Each container on the way to a place, with the part of the path that leads on in it."""
        here: Value = self.root
        for part in path:
            if isinstance(here, Map) and isinstance(part, str):
                if part in here:
                    yield here, part
                    here = here[part]
            elif isinstance(here, Seq) and isinstance(part, int) and part < len(here):
                yield here, part
                here = here[part]


def read_document(data: bytes, problems: Problems) -> Document | None:
    """Reads one YAML document.

    Args:
        data: The file's bytes, UTF-8.
        problems: Takes everything that is wrong.

    Returns:
        The document, also when problems were found that leave something to check; None when YAML itself could
        not be read or a limit was passed.
    """
    if len(data) > MAX_BYTES:
        problems.add((1, 1), (), f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before) - before.rfind(b"\n")
        problems.add((before.count(b"\n") + 1, column), (), "the file is not UTF-8 text")
        return None
    reader = _Reader(text, problems)
    try:
        return reader.read()
    except _GiveUpError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.add(at, (), f"YAML can't read this: {error.problem}{_hint(text, at)}")
    except yaml.reader.ReaderError as error:
        before_error = text[: error.position]
        at = (before_error.count("\n") + 1, len(before_error) - before_error.rfind("\n"))
        problems.add(at, (), f"YAML can't read this: {error.reason}")
    return None


class _GiveUpError(Exception):
    """A limit was passed: the problem is taken down, reading on would be unsafe."""


@dataclass(slots=True)
class _Open:
    """A container whose end has not come yet; `key` is the one that waits for its value."""

    node: Map | Seq
    start: int
    anchor: str | None
    key: str | None = None
    key_at: Position = (0, 0)
    waiting: bool = False


class _Reader:
    """One pass over the parser's events, without recursion."""

    def __init__(self, text: str, problems: Problems) -> None:
        self.text, self.problems = text, problems
        self.document = Document(None, text=text)
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Value, int]] = {}
        self.nodes = 0
        self.aliased = 0

    def read(self) -> Document | None:
        documents = 0
        loader = yaml.CSafeLoader(self.text)
        try:
            while (event := loader.get_event()) is not None:
                if isinstance(event, ScalarEvent):
                    self._scalar(event)
                elif isinstance(event, MappingStartEvent):
                    self._open(event, Map(_at(event)))
                elif isinstance(event, SequenceStartEvent):
                    self._open(event, Seq(_at(event)))
                elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                    self._close()
                elif isinstance(event, AliasEvent):
                    self._alias(event)
                elif isinstance(event, DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._problem(event, "a second document starts here; a file holds one")
                        raise _GiveUpError
        finally:
            loader.dispose()
        if not documents:
            self.problems.add((1, 1), (), "the file is empty")
            return None
        return self.document

    def _problem(self, event: Event, message: str) -> None:
        path: list[str | int] = []
        for depth, held in enumerate(self.stack, start=1):
            innermost = depth == len(self.stack)
            if isinstance(held.node, Seq):
                path.append(len(held.node) - (not innermost))
            elif held.key is not None and (held.waiting or not innermost):
                path.append(held.key)
        self.problems.add(_at(event), tuple(path), message)

    def _count(self, event: Event) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._problem(event, f"more than {MAX_NODES:,} values")
            raise _GiveUpError

    def _open(self, event: MappingStartEvent | SequenceStartEvent, node: Map | Seq) -> None:
        self._count(event)
        if len(self.stack) >= MAX_DEPTH:
            self._problem(event, f"more than {MAX_DEPTH} levels deep")
            raise _GiveUpError
        if event.tag is not None:
            self._problem(event, f"tags such as {_short_tag(event.tag)} are not read")
        self._place(event, node)
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)
        self.stack.append(_Open(node, self.nodes, event.anchor))

    def _close(self) -> None:
        closed = self.stack.pop()
        if closed.anchor is not None:
            self.anchors[closed.anchor] = (closed.node, self.nodes - closed.start + 1)

    def _alias(self, event: AliasEvent) -> None:
        if any(held.anchor == event.anchor for held in self.stack):
            self._problem(event, f"*{event.anchor} refers to itself")
            raise _GiveUpError
        if event.anchor not in self.anchors:
            self._problem(event, f"no anchor &{event.anchor} stands above{_QUOTE}")
            self._place(event, f"*{event.anchor}")
            return
        value, size = self.anchors[event.anchor]
        self.nodes += size
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            self._problem(event, f"aliases repeat more than {MAX_ALIASED:,} values")
            raise _GiveUpError
        self._place(event, value)

    def _scalar(self, event: ScalarEvent) -> None:
        self._count(event)
        if event.tag is not None and not (event.implicit[0] or event.implicit[1]):
            self._problem(event, f"tags such as {_short_tag(event.tag)} are not read; quote text that starts with '!'")
        text, plain = event.value, not event.style
        value: Value = text
        if plain and not self._is_key_place():
            value = self._plain(event, text)
            if not isinstance(value, str):
                self.document.written[_at(event)] = text
        self._place(event, value, plain=plain)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)

    def _is_key_place(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node, Map) and not self.stack[-1].waiting

    def _plain(self, event: ScalarEvent, text: str) -> Value:
        try:
            return _resolve(text)
        except ValueError as error:
            self._problem(event, f'{error}; quote it: "{text}"')
            return text

    def _place(self, event: Event, value: Value, *, plain: bool = False) -> None:
        if not self.stack:
            self.document.root = value
            return
        held = self.stack[-1]
        node, at = held.node, _at(event)
        if isinstance(node, Seq):
            node.numbers.append(len(node))
            node.append(value)
            node.items_at.append(at)
        elif held.waiting:
            held.waiting = False
            if held.key is not None:
                node[held.key] = value
                node.keys_at[held.key], node.values_at[held.key] = held.key_at, at
        else:
            held.key = None
            held.key, held.key_at = self._key(event, node, value, plain=plain), at
            held.waiting = True

    def _key(self, event: Event, node: Map, value: Value, *, plain: bool) -> str | None:
        """The key that stands here, or None when its value is to be dropped."""
        if not isinstance(value, str):
            self._problem(event, "a key must be text")
            return None
        if plain and value == "<<":
            self._problem(event, "merge keys are not read; write the keys out")
            return None
        if plain and not isinstance(_resolve_quietly(value), str):
            self._problem(event, f'the key {value} is not text; quote it: "{value}"')
            return None
        if value in node:
            first = node.keys_at[value]
            self._problem(event, f"the key {value!r} stands twice, first in line {first[0]}; take one of them out")
            return None
        return value


def _at(event: Event) -> Position:
    mark = event.start_mark
    assert mark is not None
    return (mark.line + 1, mark.column + 1)


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


#: What ends a line for YAML.
_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_INT: Final = re.compile(r"[-+]?[0-9]+\Z")
_BASED: Final = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL: Final = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_NUMBER_STARTS: Final = frozenset("0123456789+-.")
_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "false": False,
}  # fmt: skip


def _resolve(text: str) -> Value:
    """The value of a plain scalar.

    Raises:
        ValueError: It is a number that JSON or other YAML readers can't take as it stands.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INT.match(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            raise ValueError(f"{text} starts with 0, which some readers take as octal")
        if len(digits) > 18:
            raise ValueError(f"{text} is too long for a number")
        return int(text)
    if _BASED.match(text):
        return int(text, 0)
    if _SPECIAL.match(text):
        raise ValueError(f"{text} is not a number that JSON can hold")
    if _FLOAT.match(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is too large for a number")
        return number
    return text


def _resolve_quietly(text: str) -> Value:
    try:
        return _resolve(text)
    except ValueError:
        return None


_QUOTE: Final = '; if it is meant as text, quote it, such as "*.csv"'


def _hint(text: str, at: Position) -> str:
    """What to do about a place that YAML itself can't read, from what stands there."""
    lines = text.splitlines()
    line = lines[at[0] - 1] if at[0] <= len(lines) else ""
    before, rest = line[: at[1] - 1], line[at[1] - 1 :]
    if "${" in (before[-1:] + rest[:1], rest[:2]) or re.search(r"[{,\[:]\s*[^\"'#]*\$\{", line):
        return '; a placeholder inside braces or brackets must be quoted: "${...}"'
    for char, example in (("*", '"*.csv"'), ("@", '"@latest"'), ("`", '"`..."'), ("%", '"%..."'), ("&", '"&..."')):
        if rest.startswith(char) or before.rstrip().endswith(char):
            return f"; quote text that starts with {char}, such as {example}"
    if rest.startswith("\t") or "\t" in before:
        return "; indent with spaces, not tabs"
    return ""
