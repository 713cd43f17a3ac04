"""Every request that a plan may hold."""

from __future__ import annotations

from typing import TypeAlias

from dataset_tasks.ops.requests.drafts import AddExternal, AddFiles, Create, RemoveFiles, SyncFolder
from dataset_tasks.ops.requests.steps import Build, Check, Transform
from dataset_tasks.ops.requests.storing import Finalize, Upload
from dataset_tasks.ops.requests.versions import Approve, Delete, GetCopy, Publish, Squash, Verify

AnyRequest: TypeAlias = (
    Create
    | AddFiles
    | AddExternal
    | SyncFolder
    | RemoveFiles
    | Transform
    | Check
    | Upload
    | Finalize
    | Build
    | Approve
    | Publish
    | Squash
    | Verify
    | GetCopy
    | Delete
)
