"""Tables that fit the terminal: columns that find no room are left out, so that ids and numbers stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

Row: TypeAlias = "Sequence[Text | str]"
#: A table, and the heads of the columns that are not in it.
Fitted: TypeAlias = "tuple[Table, tuple[str, ...]]"
#: Between two columns, in cells.
_GAP: Final = 3
#: A column of long texts gets at least so many cells, and what the others leave.
_LEAST: Final = 24


def fitting(
    width: int,
    heads: Sequence[str],
    rows: Sequence[Row],
    *,
    always: Sequence[str],
    then: Sequence[str],
    right: Sequence[str] = (),
    long: Sequence[str] = (),
) -> Fitted:
    """A table of the columns for which there is room, and the heads of those for which there is none.

    Args:
        width: Of the terminal, in cells.
        heads: Of all columns, in the order in which they are shown; each once.
        rows: A cell for each head.
        always: Shown in any case, and folded where even they find no room.
        then: The others, what is most worth knowing first.
        right: Columns of numbers.
        long: Columns of texts that may be folded.
    """
    sizes = {
        head: max(*map(cell_len, ("", *head.split("\n"))), *(_size(row[place]) for row in rows))
        for place, head in enumerate(heads)
    }
    needed = {head: min(size, _LEAST) if head in long else size for head, size in sizes.items()}
    chosen = list(always)
    room = width - sum(needed[head] + _GAP for head in always) + 1
    for head in then:
        if needed[head] + _GAP <= room:
            chosen.append(head)
            room -= needed[head] + _GAP
    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    places = [place for place, head in enumerate(heads) if head in chosen]
    for place in places:
        head = heads[place]
        whole = head not in long and head not in always
        made.add_column(head, justify="right" if head in right else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        made.add_row(*(row[place] for place in places))
    return made, tuple(head for head in heads if head not in chosen)


def _size(cell: Text | str) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(cell)
