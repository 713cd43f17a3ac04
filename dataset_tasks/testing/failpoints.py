"""Faults injected into this process, for tests: what happens at the points of `dataset_tasks.failpoints`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dataset_tasks.failpoints import Injection, Rule, inject, parse


@contextmanager
def injected(rules: str | Sequence[Rule] = "") -> Iterator[Injection]:
    """Lets rules act inside the `with` block, in all threads; without rules it only counts.

    Args:
        rules: The text of `DATASET_TASKS_FAILPOINTS`, or rules whose actions are functions.

    Raises:
        InvalidArgumentError: A rule can't be read.

    >>> from dataset_tasks.failpoints import failpoint
    >>> with injected() as seen:
    ...     failpoint("create.before_commit")
    >>> seen.reached()
    {'create.before_commit': 1}
    """
    injection = Injection(parse(rules) if isinstance(rules, str) else rules)
    before = inject(injection)
    try:
        yield injection
    finally:
        inject(before)
