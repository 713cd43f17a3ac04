"""What a dataset reads: keys of its own spec, or references to versions made elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Reference
from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec.problems import in_one_line, listed

KEY: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
_WHOLE_PLACEHOLDER: Final = re.compile(r"\$\{[^{}]*\}\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """One version that is read: `key` names a dataset of the spec, `text` is what the file says."""

    text: str
    key: str | None = None

    @property
    def last_part(self) -> str:
        """What a transform calls it when the file gives it no name; empty for an id or a placeholder."""
        if self.key is not None:
            return self.key
        if _WHOLE_PLACEHOLDER.match(self.text):
            return ""
        reference = Reference.parse(self.text)
        return reference.name


def read_source(text: str, keys: Collection[str]) -> Source:
    """Reads a key or a reference.

    Args:
        text: What the file says.
        keys: The datasets of the spec; a set or mapping, as there is one look-up for each source.

    Raises:
        InvalidArgumentError: It is neither; the message says what to write.
    """
    if text in keys:
        return Source(text, text)
    if _WHOLE_PLACEHOLDER.match(text):
        return Source(text)
    if text.startswith("step:"):
        raise InvalidArgumentError(f"{text!r} is not a reference; write the key of the dataset")
    bare, at, selector = text.partition("@")
    if at and bare in keys:
        raise InvalidArgumentError(
            f"{bare!r} is a dataset of this spec and means the version of this run; write {bare!r} alone, or "
            f"project/name@{selector} for another version"
        )
    if "/" not in text and not text.startswith("id:") and not _is_id(text):
        near = did_you_mean(text, keys)
        raise InvalidArgumentError(
            f"no dataset {text!r} in this spec{near or f'; there are {listed(list(keys))}'}"
            + ("" if near else "; a dataset made elsewhere is written project/name")
        )
    try:
        Reference.parse(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(in_one_line(error)) from error
    return Source(text)


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def sorted_by_need(needs: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The keys so that each comes after what it needs, else in their own order; and the cycles that are in the way.

    Args:
        needs: For each key the keys it needs; all of them are keys.

    Returns:
        The order of what no cycle holds up, and each cycle once, every member needing the next.
    """
    waiting = {key: set(held) for key, held in needs.items()}
    below: dict[str, list[str]] = {key: [] for key in needs}
    for key, held in waiting.items():
        for need in held:
            below[need].append(key)
    order: list[str] = []
    cycles: list[list[str]] = []
    ready = [key for key, held in waiting.items() if not held]
    while waiting:
        if not ready:
            cycle = _a_cycle(waiting)
            cycles.append(cycle)
            ready = cycle
        following: list[str] = []
        for key in ready:
            if key not in waiting:
                continue
            del waiting[key]
            order.append(key)
            for other in below[key]:
                if other in waiting:
                    waiting[other].discard(key)
                    if not waiting[other]:
                        following.append(other)
        ready = following
    return order, cycles


def _a_cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """Some cycle among keys that all need another of them, from its first key in the file."""
    order = {key: place for place, key in enumerate(waiting)}
    walked: dict[str, int] = {}
    here = next(iter(waiting))
    while here not in walked:
        walked[here] = len(walked)
        here = min(waiting[here] & waiting.keys(), key=order.__getitem__)
    cycle = list(walked)[walked[here] :]
    first = min(range(len(cycle)), key=lambda place: order[cycle[place]])
    return cycle[first:] + cycle[:first]
