"""One Prefect task per operation.

Each takes the fields of its request, and three arguments that all have in common:

- `catalog`: a `DatasetCatalog` block, the name of a saved one, or None for what the environment names;
- `step`: the operation's name within the flow run. Without it the request itself is the name: asking twice for just the
  same in one flow run is one operation, as a retry is;
- `origin`: more facts to keep with the version that is made.

A task returns the fields of the operation's result as a dict, and takes such a dict (or the future of one) wherever a
version is asked for. When nothing changed its state is `Completed` by the name of `Unchanged`. A `DatasetError` that is not
retryable is not tried again, whatever `retries` says. Tasks that run users' code are not retried unless asked:
`build_dataset.with_options(retries=2)`.
"""

from __future__ import annotations

from prefect_blocks.tasks.draft import (
    add_external_files,
    add_files,
    check_dataset,
    create_dataset,
    remove_files,
    sync_folder,
    transform_dataset,
)
from prefect_blocks.tasks.upkeep import (
    collect_garbage,
    copy_dataset,
    repack_store,
    repair_store,
    undelete_dataset,
)
from prefect_blocks.tasks.version import (
    approve_dataset,
    build_dataset,
    delete_dataset,
    finalize_dataset,
    get_copy,
    publish_dataset,
    squash_datasets,
    upload_dataset,
    verify_dataset,
)

__all__ = [
    "add_external_files",
    "add_files",
    "approve_dataset",
    "build_dataset",
    "check_dataset",
    "collect_garbage",
    "copy_dataset",
    "create_dataset",
    "delete_dataset",
    "finalize_dataset",
    "get_copy",
    "publish_dataset",
    "remove_files",
    "repack_store",
    "repair_store",
    "squash_datasets",
    "sync_folder",
    "transform_dataset",
    "undelete_dataset",
    "upload_dataset",
    "verify_dataset",
]
