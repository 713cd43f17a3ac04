"""Operators that look after what is stored: undelete, gc, copy, repack, repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider.operators.base import DatasetOperator
from dataset_tasks.errors import IntegrityError
from dataset_tasks.ops.references import Ref
from dataset_tasks.ops.requests import Collect, Copy, Repack, Repair, RepairResult, Result, Undelete

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


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


class DatasetRepackOperator(DatasetOperator):
    """Copies what is still needed of archives that are mostly dead, so that gc can free them. Tells unless told to do it.

    Args:
        dry_run_only: False does it. (The request's `dry_run`, as of `DatasetGcOperator`.)
        live: Archives are repacked of whose bytes at most this share is needed, 0 to 1.
        kwargs: See `DatasetOperator`.
    """

    operation = Repack
    renamed: ClassVar[Mapping[str, str]] = {"dry_run": "dry_run_only"}

    def __init__(
        self,
        *,
        dry_run_only: bool = True,
        live: float = 0.5,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.dry_run_only = dry_run_only
        self.live = live


class DatasetRepairOperator(DatasetOperator):
    """Looks for damage in everything stored and heals what it can; fails when files are lost.

    Args:
        refs: Versions to look at; default all.
        copies: Folders or URLs of stores that hold a copy of the catalog's objects.
        folders: Where files are that may be what is missing.
        dry_run_only: Only tell. (The request's `dry_run`.)
        fail_on_loss: False gives what is lost in the result instead.
        kwargs: See `DatasetOperator`.
    """

    operation = Repair
    renamed: ClassVar[Mapping[str, str]] = {"dry_run": "dry_run_only"}

    def __init__(
        self,
        *,
        refs: Sequence[Ref] | Ref = (),
        copies: Sequence[str] = (),
        folders: Sequence[str] = (),
        dry_run_only: bool = False,
        fail_on_loss: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.refs = refs
        self.copies = copies
        self.folders = folders
        self.dry_run_only = dry_run_only
        self.fail_on_loss = fail_on_loss

    def finish(self, result: Result, context: Context) -> None:
        """Fails the task when files are lost."""
        assert isinstance(result, RepairResult)
        if result.lost and self.fail_on_loss:
            raise lost(result.lost)


def lost(files: Sequence[str]) -> IntegrityError:
    """The error that names the files a repair found nowhere."""
    shown = ", ".join(files[:10]) + (f" and {len(files) - 10} more" if len(files) > 10 else "")
    return IntegrityError(
        f"{len(files)} files are damaged and were found nowhere: {shown}",
        paths=tuple(files),
        hint="Give `copies` of the store, or `folders` with the files, and repair again.",
    )
