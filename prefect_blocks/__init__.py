"""Versioned datasets for Prefect 3: a catalog block, a task per operation, `dataset_task`, and specs as flows.

Names are loaded when they are first used. Prefect itself loads `prefect_blocks.blocks` by its entry point.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect_blocks.approvals import wait_for_approval as wait_for_approval
    from prefect_blocks.blocks import DatasetCatalog as DatasetCatalog
    from prefect_blocks.flows import flow_from_spec as flow_from_spec
    from prefect_blocks.function import dataset_task as dataset_task
    from prefect_blocks.stores import AzureCredentials as AzureCredentials
    from prefect_blocks.stores import AzureStore as AzureStore
    from prefect_blocks.stores import GcsCredentials as GcsCredentials
    from prefect_blocks.stores import GcsStore as GcsStore
    from prefect_blocks.stores import S3Credentials as S3Credentials
    from prefect_blocks.stores import S3Store as S3Store
    from prefect_blocks.tasks import add_external_files as add_external_files
    from prefect_blocks.tasks import add_files as add_files
    from prefect_blocks.tasks import approve_dataset as approve_dataset
    from prefect_blocks.tasks import build_dataset as build_dataset
    from prefect_blocks.tasks import check_dataset as check_dataset
    from prefect_blocks.tasks import collect_garbage as collect_garbage
    from prefect_blocks.tasks import copy_dataset as copy_dataset
    from prefect_blocks.tasks import create_dataset as create_dataset
    from prefect_blocks.tasks import delete_dataset as delete_dataset
    from prefect_blocks.tasks import finalize_dataset as finalize_dataset
    from prefect_blocks.tasks import get_copy as get_copy
    from prefect_blocks.tasks import publish_dataset as publish_dataset
    from prefect_blocks.tasks import remove_files as remove_files
    from prefect_blocks.tasks import repack_store as repack_store
    from prefect_blocks.tasks import repair_store as repair_store
    from prefect_blocks.tasks import squash_datasets as squash_datasets
    from prefect_blocks.tasks import sync_folder as sync_folder
    from prefect_blocks.tasks import transform_dataset as transform_dataset
    from prefect_blocks.tasks import undelete_dataset as undelete_dataset
    from prefect_blocks.tasks import upload_dataset as upload_dataset
    from prefect_blocks.tasks import verify_dataset as verify_dataset
    from prefect_blocks.writing import dataset_version as dataset_version

__all__ = [
    "AzureCredentials",
    "AzureStore",
    "DatasetCatalog",
    "GcsCredentials",
    "GcsStore",
    "S3Credentials",
    "S3Store",
    "add_external_files",
    "add_files",
    "approve_dataset",
    "build_dataset",
    "check_dataset",
    "collect_garbage",
    "copy_dataset",
    "create_dataset",
    "dataset_task",
    "dataset_version",
    "delete_dataset",
    "finalize_dataset",
    "flow_from_spec",
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
    "wait_for_approval",
]

_STORES = ("AzureCredentials", "AzureStore", "GcsCredentials", "GcsStore", "S3Credentials", "S3Store")
_HOMES = (
    dict.fromkeys(__all__, "tasks")
    | dict.fromkeys(_STORES, "stores")
    | {
        "DatasetCatalog": "blocks",
        "dataset_task": "function",
        "dataset_version": "writing",
        "flow_from_spec": "flows",
        "wait_for_approval": "approvals",
    }
)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found: object = getattr(import_module(f"prefect_blocks.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
