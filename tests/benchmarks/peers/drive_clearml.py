"""One operation of ClearML Data without its server, on the folder `data` beside. WORK: the work folder.

Its client offers no upload offline, so a push does here what `Dataset.upload` does online into a folder: the same
`ParallelZipper` with the same arguments, and each zip moved to the store. A copy does what
`get_mutable_local_copy` does: unpack the zips in order, then drop what the version does not have. Only that work is counted,
not the start of the client (`inner`, read by the benchmark).
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clearml import Dataset
from clearml.datasets.dataset import FileEntry
from clearml.utilities.parallel import ParallelZipper

work, step = Path(os.environ["WORK"]), sys.argv[1]
store = work / "store"
Row = tuple[str, str, int, str | None]


def cpu() -> float:
    """CPU seconds of this process and the children it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def rows(name: str) -> list[Row]:
    return pickle.loads((work / f"{name}.rows").read_bytes())


def offline() -> Dataset:
    # It notes each call in the task's script, which a thread looking for a git repository may not have made yet.
    Dataset._add_script_call = lambda *_, **__: None
    Dataset.set_offline(True)
    return Dataset.create(dataset_name="bench", dataset_project="bench")


def added(base: str | None, keep: str | None) -> None:
    """Adds the folder over the entries of an earlier version."""
    made = offline()
    for path, digest, size, _ in rows(base) if base else ():
        made._dataset_file_entries[path] = FileEntry(
            relative_path=path, hash=digest, size=size, parent_dataset_id="parent", local_path=None
        )
    count()
    made.add_files(str(Path("data").resolve()))
    entries = made._dataset_file_entries
    for path in [path for path in entries if not os.path.exists(os.path.join("data", path))]:
        del entries[path]
    counted()
    if keep:
        held = [(each.relative_path, each.hash, each.size, each.local_path) for each in entries.values()]
        (work / f"{keep}.rows").write_bytes(pickle.dumps(held))


def pushed(name: str) -> None:
    made = offline()
    new = {local: path for path, _, _, local in rows(name) if local}
    count()
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        zipper = ParallelZipper(
            512, threads, allow_zip_64=True, compression=zipfile.ZIP_DEFLATED, zip_prefix=f"dataset.{name}.",
            zip_suffix=".zip", verbose=False, task=made._task, pool=pool,
        )  # fmt: skip
        for number, chunk in enumerate(zipper.zip_iter(list(new), arcnames=new)):
            shutil.move(str(chunk.zip_path), store / f"{name}.{number:04d}.zip")
    counted()


def copied(name: str) -> None:
    count()
    out = work / "out/data"
    for each in sorted(store.glob("*.zip")):
        with zipfile.ZipFile(each) as chunk:
            chunk.extractall(out)
    wanted = {path for path, *_ in rows(name)}
    for top, _, names in os.walk(out):
        for path in (os.path.join(top, each) for each in names):
            if os.path.relpath(path, out) not in wanted:
                os.unlink(path)
    counted()


begun = (0.0, 0.0)


def count() -> None:
    global begun
    begun = (cpu(), time.perf_counter())


def counted() -> None:
    (work / "inner").write_text(json.dumps({"cpu": cpu() - begun[0], "wall": time.perf_counter() - begun[1]}))


match step:
    case "add v1":
        added(None, "v1")
    case "push v1":
        pushed("v1")
    case "nothing changed":
        added("v1", None)
    case "add v2":
        added("v1", "v2")
    case "push v2":
        pushed("v2")
    case "get v2":
        copied("v2")
sys.stdout.flush()
os._exit(0)  # its threads would wait for a server
