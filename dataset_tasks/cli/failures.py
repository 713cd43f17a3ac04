"""How a failure is told: message and hint; the traceback of the user's own code; ours only on demand."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

from dataset_tasks.cli.output import Output, shown
from dataset_tasks.errors import DatasetError, TransformError

_OURS = str(Path(__file__).resolve().parent.parent)


def in_words(error: BaseException) -> DatasetError:
    """An error that is none of ours as one, so that it can be told alike."""
    if isinstance(error, DatasetError):
        return error
    hint = "See the traceback with --debug."
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename is not None else ""
        if isinstance(error, FileNotFoundError) and where:
            hint = f"Check the path and make its folder. {hint}"
        return DatasetError(f"{error.strerror or error}{where}", hint=hint, kind="os")
    return DatasetError(f"{type(error).__name__}: {error}", hint=hint, kind=type(error).__name__)


def tell(out: Output, error: BaseException, *, debug: bool, where: str = "") -> None:
    """Writes a failure to stderr.

    Args:
        out: Where to write.
        error: What was raised.
        debug: Also the whole traceback.
        where: The step it was raised in.
    """
    if debug:
        _write(traceback.format_exception(error))
    worded = in_words(error)
    out.failure(f"{where}: {worded.message}" if where else worded.message, worded.hint)
    if isinstance(error, TransformError) and error.__cause__ is not None and not debug:
        cause = error.__cause__
        _write(traceback.format_exception(type(cause), cause, _users_part(cause.__traceback__)))


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not ours."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_OURS):
        part = part.tb_next
    return part if part is not None else trace


def _write(lines: list[str]) -> None:
    sys.stderr.write(shown("".join(lines), keep="\n\t"))
