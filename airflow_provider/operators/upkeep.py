"""Operators that look after what is stored: undelete, gc, copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_provider.operators.base import DatasetOperator
from dataset_tasks.ops.references import Ref
from dataset_tasks.ops.requests import Collect, Copy, Undelete


class DatasetUndeleteOperator(DatasetOperator):
    """Brings back a final version that was deleted, as long as its bytes are there.

    Args:
        ref: The version: its id, or the number it had.
        kwargs: See `DatasetOperator`.
    """

    operation = Undelete

    def __init__(self, *, ref: Ref, **kwargs: Any) -> None:  # Any: BaseOperator's own arguments
        super().__init__(**kwargs)
        self.ref = ref


class DatasetGcOperator(DatasetOperator):
    """Ends what nobody needs and frees its bytes: made to run once a day. Tells what it would do unless told to do it.

    Args:
        dry_run_only: False does it. (The request's `dry_run`: operators of Airflow have a method of that name.)
        now: No grace for what is deleted.
        grace: How long a deleted version can be brought back, in seconds.
        idle: How long an object stays that nothing refers to, in seconds.
        drafts: How long a draft stays that nothing is done to, in seconds.
        kwargs: See `DatasetOperator`.
    """

    operation = Collect
    renamed: ClassVar[Mapping[str, str]] = {"dry_run": "dry_run_only"}

    def __init__(
        self,
        *,
        dry_run_only: bool = True,
        now: bool = False,
        grace: float = 7 * 86_400.0,
        idle: float = 86_400.0,
        drafts: float = 30 * 86_400.0,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.dry_run_only = dry_run_only
        self.now = now
        self.grace = grace
        self.idle = idle
        self.drafts = drafts


class DatasetCopyOperator(DatasetOperator):
    """Copies a final version with its lineage into another catalog, or moves it to another store of its own.

    Args:
        ref: The version.
        to_catalog: URL of the other catalog, without a password; None: the version's own.
        to_store: URL of the store its bytes come to; default the session's.
        lineage: Whether what it was made from is copied too; else its rows alone.
        kwargs: See `DatasetOperator`.
    """

    operation = Copy

    def __init__(
        self,
        *,
        ref: Ref,
        to_catalog: str | None = None,
        to_store: str | None = None,
        lineage: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.ref = ref
        self.to_catalog = to_catalog
        self.to_store = to_store
        self.lineage = lineage
