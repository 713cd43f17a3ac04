"""Named points between the steps of the commit protocol where tests make a process die, fail, stop or wait.

Without injection `failpoint` is a call and one comparison. With `DATASET_TASKS_FAILPOINTS` set when this module is
imported, or inside `dataset_tasks.testing.failpoints.injected`, each point counts how often it is reached, and rules of
the form `name=action@hit`, joined by `;`, act: `upload.after_chunk=kill@3;finalize.before_commit=raise:OSError`.

Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP to it), `sleep:<seconds>`, `raise:<class>` (a builtin
exception or one of `dataset_tasks.errors`), and `barrier:<folder>`, which makes the file `<name>.reached` in the folder
and waits for `<name>.go`. Without `@hit` a rule acts the first time.
"""

from __future__ import annotations

import builtins
import errno
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from dataset_tasks import errors

VARIABLE: Final = "DATASET_TASKS_FAILPOINTS"
_LOOK_SECONDS: Final = 0.002

#: Every point there is. Each stands at one place of the source.
NAMES: Final = frozenset({
    "approve.before_commit", "approve.after_commit",
    "build.after_stage",
    "cache.after_lock", "cache.after_copy", "cache.after_listing", "cache.before_rename", "cache.between_renames",
    "cache.after_rename", "cache.before_mend", "cache.after_mend",
    "catalog.before_work", "catalog.before_commit", "catalog.after_commit",
    "content.before_objects", "content.before_commit", "content.after_commit", "content.after_lease",
    "copy.after_object", "copy.after_index", "copy.after_version", "copy.after_reports",
    "copy.after_moved_object", "copy.after_moved_index", "copy.after_moved_version",
    "check.before_report",
    "create.before_commit", "create.after_commit",
    "delete.before_commit", "delete.after_commit",
    "finalize.before_check", "finalize.before_commit", "finalize.after_commit", "finalize.after_condemn",
    "finalize.after_tidy",
    "gc.before_end", "gc.after_end", "gc.before_purge", "gc.after_purge", "gc.after_writes", "gc.after_roots",
    "gc.after_condemn", "gc.after_going", "gc.after_part", "gc.before_bytes", "gc.after_bytes", "gc.after_rows",
    "import.after_chunk",
    "journal.before_write", "journal.after_write", "journal.after_mark",
    "local.before_sync", "local.before_name", "local.after_name",
    "multipart.after_begin", "multipart.after_part", "multipart.before_complete", "multipart.after_complete",
    "mutable.before_fill", "mutable.after_fill", "mutable.in_swap", "mutable.after_swap",
    "move.after_object", "move.before_repoint", "move.after_repoint",
    "objects.before_rows", "objects.after_rows", "objects.after_bytes", "objects.after_written",
    "objects.before_discard", "objects.after_discard",
    "onepass.after_member", "onepass.after_chunk_bytes", "onepass.after_chunk",
    "publish.before_commit", "publish.after_commit",
    "rebuild.after_batch", "rebuild.after_objects",
    "relocate.after_chunk_bytes", "relocate.after_chunk", "relocate.before_version", "relocate.after_version",
    "repack.after_versions", "repair.after_object", "repair.before_quarantine",
    "squash.after_draft", "squash.after_chunk_bytes", "squash.after_chunk", "squash.after_copy", "squash.after_fill",
    "squash.after_final",
    "transform.after_rewind", "transform.before_code", "transform.after_code", "transform.after_add",
    "unchanged.before_drop", "unchanged.after_drop",
    "undelete.before_commit", "undelete.after_commit",
    "upgrade.after_copy", "upgrade.after_step",
    "upload.before_chunk", "upload.after_member", "upload.after_chunk_bytes", "upload.after_delta_bytes",
    "upload.after_chunk", "upload.before_commit", "upload.after_commit",
    "verify.before_mark", "verify.after_mark",
})  # fmt: skip

#: What happens at a point; gets its name.
Action: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """Acts when the point of that name is reached for the `hit`-th time.

    Raises:
        InvalidArgumentError: There is no such point, or no such hit.
    """

    name: str
    action: Action
    hit: int = 1

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise errors.InvalidArgumentError(
                f"there is no failpoint {self.name!r}", hint="dataset_tasks.failpoints.NAMES lists them."
            )
        if self.hit < 1:
            raise errors.InvalidArgumentError(f"{self.name}: hit {self.hit} is not 1 or more")


class Injection:
    """Rules and how often each point was reached. Threads may share it."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = {(rule.name, rule.hit): rule.action for rule in rules}
        self._reached: Counter[str] = Counter()
        self._lock = threading.Lock()

    def at(self, name: str) -> None:
        """Counts, and does what a rule says."""
        with self._lock:
            self._reached[name] += 1
            hit = self._reached[name]
        action = self._rules.get((name, hit))
        if action is not None:
            action(name)

    def reached(self) -> dict[str, int]:
        """How often each point was reached so far, by name."""
        with self._lock:
            return dict(sorted(self._reached.items()))


_injection: Injection | None = None


def failpoint(name: str) -> None:
    """A point where tests inject faults; does nothing otherwise."""
    if _injection is not None:
        _injection.at(name)


def inject(injection: Injection | None) -> Injection | None:
    """Makes an injection the one of this process, None for none; gives the one before."""
    global _injection
    before, _injection = _injection, injection
    return before


def parse(text: str) -> list[Rule]:
    """The rules that a text says.

    Raises:
        InvalidArgumentError: It can't be read, or names an unknown point or action.

    >>> [(rule.name, rule.hit) for rule in parse("upload.after_chunk=kill@3; create.after_commit=raise:OSError")]
    [('upload.after_chunk', 3), ('create.after_commit', 1)]
    """
    return [_rule(part.strip()) for part in text.split(";") if part.strip()]


def _rule(text: str) -> Rule:
    name, _, does = text.partition("=")
    does, _, hit = does.partition("@")
    word, _, argument = does.partition(":")
    try:
        action = _ACTIONS[word](argument)
        return Rule(name.strip(), action, int(hit or 1))
    except (KeyError, ValueError, AttributeError) as error:
        if isinstance(error, errors.InvalidArgumentError):
            raise
        raise errors.InvalidArgumentError(
            f"the failpoint rule {text!r} can't be read",
            hint=f"Write `name=action@hit`; actions: {', '.join(_ACTIONS)}.",
        ) from error


def _kill(_argument: str) -> Action:
    return lambda _name: os.kill(os.getpid(), signal.SIGKILL)


def _stop(_argument: str) -> Action:
    return lambda _name: os.kill(os.getpid(), signal.SIGSTOP)


def _sleep(argument: str) -> Action:
    seconds = float(argument)
    return lambda _name: time.sleep(seconds)


def _raise(argument: str) -> Action:
    kind: object = getattr(errors, argument, None) or getattr(builtins, argument)
    if not isinstance(kind, type) or not issubclass(kind, BaseException):
        raise ValueError(argument)  # noqa: TRY004  # a word of the rule, no argument of a call

    def action(name: str) -> None:
        raise kind(errno.EIO, f"injected at {name}") if issubclass(kind, OSError) else kind(f"injected at {name}")

    return action


def _barrier(argument: str) -> Action:
    folder = Path(argument)
    if not argument:
        raise ValueError("barrier needs a folder")

    def action(name: str) -> None:
        (folder / f"{name}.reached").touch()
        while not (folder / f"{name}.go").exists():
            time.sleep(_LOOK_SECONDS)

    return action


_ACTIONS: Final[dict[str, Callable[[str], Action]]] = {
    "kill": _kill,
    "stop": _stop,
    "sleep": _sleep,
    "raise": _raise,
    "barrier": _barrier,
}

if os.environ.get(VARIABLE):
    inject(Injection(parse(os.environ[VARIABLE])))
