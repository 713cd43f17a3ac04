"""Every operation as a pair of plain values: a `Request` in, a `Result` out.

Both are frozen and JSON-safe (see `ops.wire`), hold references, counts and digests, never file lists and
never secrets, and so can pass between tasks, processes and machines. `ref` fields take a reference as
`dataset_tasks.model.Reference` reads it: an id, `project/name@selector` or, inside a plan, `step:<step id>`.

A request that is `once` gives its recorded result when it comes again with the same operation key; the others
converge: they are done again against the draft and end in the same state. Standard library only.

A class is made when it is first asked for: a process that runs one operation has no use for those of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

from dataset_tasks.ops.requests.base import AtLeast as AtLeast
from dataset_tasks.ops.requests.base import Compression as Compression
from dataset_tasks.ops.requests.base import OnError as OnError
from dataset_tasks.ops.requests.base import Request as Request
from dataset_tasks.ops.requests.base import Result as Result

if TYPE_CHECKING:
    from dataset_tasks.ops.requests.drafts import AddExternal as AddExternal
    from dataset_tasks.ops.requests.drafts import AddExternalResult as AddExternalResult
    from dataset_tasks.ops.requests.drafts import AddFiles as AddFiles
    from dataset_tasks.ops.requests.drafts import AddFilesResult as AddFilesResult
    from dataset_tasks.ops.requests.drafts import Create as Create
    from dataset_tasks.ops.requests.drafts import CreateResult as CreateResult
    from dataset_tasks.ops.requests.drafts import RemoveFiles as RemoveFiles
    from dataset_tasks.ops.requests.drafts import RemoveFilesResult as RemoveFilesResult
    from dataset_tasks.ops.requests.drafts import SyncFolder as SyncFolder
    from dataset_tasks.ops.requests.drafts import SyncFolderResult as SyncFolderResult
    from dataset_tasks.ops.requests.plans import AnyRequest as AnyRequest
    from dataset_tasks.ops.requests.steps import Build as Build
    from dataset_tasks.ops.requests.steps import BuildResult as BuildResult
    from dataset_tasks.ops.requests.steps import Check as Check
    from dataset_tasks.ops.requests.steps import CheckResult as CheckResult
    from dataset_tasks.ops.requests.steps import Stage as Stage
    from dataset_tasks.ops.requests.steps import TableCheck as TableCheck
    from dataset_tasks.ops.requests.steps import Transform as Transform
    from dataset_tasks.ops.requests.steps import TransformResult as TransformResult
    from dataset_tasks.ops.requests.storing import Finalize as Finalize
    from dataset_tasks.ops.requests.storing import FinalizeResult as FinalizeResult
    from dataset_tasks.ops.requests.storing import Upload as Upload
    from dataset_tasks.ops.requests.storing import UploadResult as UploadResult
    from dataset_tasks.ops.requests.upkeep import Collect as Collect
    from dataset_tasks.ops.requests.upkeep import CollectResult as CollectResult
    from dataset_tasks.ops.requests.upkeep import Copy as Copy
    from dataset_tasks.ops.requests.upkeep import CopyResult as CopyResult
    from dataset_tasks.ops.requests.upkeep import Repack as Repack
    from dataset_tasks.ops.requests.upkeep import RepackResult as RepackResult
    from dataset_tasks.ops.requests.upkeep import Repair as Repair
    from dataset_tasks.ops.requests.upkeep import RepairResult as RepairResult
    from dataset_tasks.ops.requests.versions import Approve as Approve
    from dataset_tasks.ops.requests.versions import ApproveResult as ApproveResult
    from dataset_tasks.ops.requests.versions import Delete as Delete
    from dataset_tasks.ops.requests.versions import DeleteResult as DeleteResult
    from dataset_tasks.ops.requests.versions import GetCopy as GetCopy
    from dataset_tasks.ops.requests.versions import GetCopyResult as GetCopyResult
    from dataset_tasks.ops.requests.versions import Publish as Publish
    from dataset_tasks.ops.requests.versions import PublishResult as PublishResult
    from dataset_tasks.ops.requests.versions import Squash as Squash
    from dataset_tasks.ops.requests.versions import SquashResult as SquashResult
    from dataset_tasks.ops.requests.versions import Undelete as Undelete
    from dataset_tasks.ops.requests.versions import UndeleteResult as UndeleteResult
    from dataset_tasks.ops.requests.versions import Verify as Verify
    from dataset_tasks.ops.requests.versions import VerifyResult as VerifyResult

#: Every operation by its verb, in the order of a version's life: its module here, and its request. The result is called
#: as the request, with `Result` behind it.
_VERBS: Final = {
    "create": ("drafts", "Create"),
    "add": ("drafts", "AddFiles"),
    "external": ("drafts", "AddExternal"),
    "sync": ("drafts", "SyncFolder"),
    "remove": ("drafts", "RemoveFiles"),
    "transform": ("steps", "Transform"),
    "check": ("steps", "Check"),
    "upload": ("storing", "Upload"),
    "finalize": ("storing", "Finalize"),
    "build": ("steps", "Build"),
    "approve": ("versions", "Approve"),
    "publish": ("versions", "Publish"),
    "squash": ("versions", "Squash"),
    "verify": ("versions", "Verify"),
    "get": ("versions", "GetCopy"),
    "delete": ("versions", "Delete"),
    "undelete": ("versions", "Undelete"),
    "gc": ("upkeep", "Collect"),
    "repack": ("upkeep", "Repack"),
    "repair": ("upkeep", "Repair"),
    "copy": ("upkeep", "Copy"),
}
_HOMES: Final = {name + kind: home for home, name in _VERBS.values() for kind in ("", "Result")}
_HOMES.update(Stage="steps", TableCheck="steps", AnyRequest="plans")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Operations(Mapping[str, tuple[type[Request], type[Result]]]):
    def __getitem__(self, verb: str) -> tuple[type[Request], type[Result]]:
        home, name = _VERBS[verb]
        module = import_module(f"{__name__}.{home}")
        return getattr(module, name), getattr(module, f"{name}Result")

    def __contains__(self, verb: object) -> bool:
        return verb in _VERBS

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


OPERATIONS: Final[Mapping[str, tuple[type[Request], type[Result]]]] = _Operations()
"""Every operation by its verb, in the order of a version's life: its request and result."""
