"""Which known word somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word that is nearest, or nothing.

    >>> did_you_mean("parnets", ["parents", "inputs"])
    "; did you mean 'parents'?"
    """
    choices = list(known)
    by_form = {_form(choice): choice for choice in choices}
    close = difflib.get_close_matches(_form(word), by_form, n=1, cutoff=0.6)
    return f"; did you mean {by_form[close[0]]!r}?" if close else ""


def _form(word: str) -> str:
    return word.casefold().replace("-", "_")
