"""What a final version still waits for before anybody finds it by name.

Such a version is quarantined from the commit that makes it final, so that no look-up gives it out: its mark is a
sentence such as `waits for verification and approval`. What it waits for takes its own part out of the mark when it
came; with the last part the mark goes. A version that failed has another mark, which nothing takes away. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

Reason: TypeAlias = Literal["verify", "approve"]
VERIFY: Final = "verify"
APPROVE: Final = "approve"

_BEGIN: Final = "waits for "
_WORDS: Final[dict[str, str]] = {VERIFY: "verification", APPROVE: "approval"}


def mark(reasons: Iterable[str]) -> str:
    """The mark of a version that waits for these; empty for none.

    >>> mark(["verify", "approve"])
    'waits for verification and approval'
    """
    held = set(reasons)
    words = [word for reason, word in _WORDS.items() if reason in held]
    return _BEGIN + " and ".join(words) if words else ""


def reasons(quarantined: str) -> tuple[str, ...]:
    """What the version of a mark waits for; nothing when it is no mark of waiting.

    >>> reasons("waits for approval"), reasons("verify failed: 3 files differ")
    (('approve',), ())
    """
    if not quarantined.startswith(_BEGIN):
        return ()
    words = quarantined.removeprefix(_BEGIN).split(" and ")
    return tuple(reason for reason, word in _WORDS.items() if word in words)


def without(quarantined: str, reason: Reason) -> str:
    """The mark once one thing came; any other mark stays as it is.

    >>> without("waits for verification and approval", "verify")
    'waits for approval'
    """
    held = reasons(quarantined)
    return mark(other for other in held if other != reason) if held else quarantined
