"""Version strings: which are semantic, how they sort, what comes next. Pure."""

from __future__ import annotations

import re

FIRST = "1.0.0"
_SEMANTIC = re.compile(r"(?P<numbers>\d+(?:\.\d+){0,3})(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\Z")


def sort_key(version: str) -> str:
    """A text that sorts as semantic versions do, under any collation; empty for a string that is not one.

    Numbers compare as numbers, a pre-release comes before its release, its parts compare as semver.org item 11 says.

    >>> sort_key("1.10.0") > sort_key("1.9.0") > sort_key("1.9.0-rc.2") > sort_key("1.9.0-rc.1")
    True
    """
    found = _SEMANTIC.match(version)
    if not found or max(map(len, found["numbers"].split("."))) > 18:
        return ""
    numbers = [int(n) for n in found["numbers"].split(".")]
    numbers += [0] * (4 - len(numbers))
    head = "".join(f"{n:018d}" for n in numbers)
    if found["pre"] is None:
        return head + "1"
    return head + "0" + "".join(_part(p) for p in found["pre"].split(".")) + "0"


def _part(text: str) -> str:
    if text.isdigit() and len(text) <= 18:
        return f"1{int(text):018d}"
    return "2" + text.encode().hex() + "00"


def following(highest: str | None) -> str:
    """The version after the highest semantic one: its last number raised; `1.0.0` when there is none.

    >>> following("1.0.9")
    '1.0.10'
    """
    found = _SEMANTIC.match(highest or "")
    if not found:
        return FIRST
    *front, last = found["numbers"].split(".")
    return ".".join([*front, str(int(last) + 1)])
