"""One operation of this project through its Python API, on the folder `data` beside. WORK: the work folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

work, step = Path(os.environ["WORK"]), sys.argv[1]
#: The build stores v1 once more: elsewhere, so that what the other steps store can be counted.
os.environ["DATASET_TASKS_HOME"] = str(work / ("built" if step == "build v1" else "store") / "home")
os.environ["DATASET_TASKS_CACHE_DIR"] = str(work / "cache")

from dataset_tasks import Dataset  # noqa: E402  # the environment comes first

notes = work / "ids.json"
ids: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}


def drafted(version: str, parents: list[str]) -> None:
    draft = Dataset.create("bench", "bench", parents)
    draft.sync_folder("data", dataset_path="data")
    notes.write_text(json.dumps(ids | {version: draft.id}))


def stored(version: str) -> None:
    draft = Dataset(ids[version])
    draft.upload(show_progress=False)
    draft.finalize()


def built() -> None:
    from dataset_tasks import open_session
    from dataset_tasks.ops.requests import AddFiles, Build, Create, Finalize, Stage, Upload

    requests = (
        Create(name="built", project="bench"),
        AddFiles(ref="step:create", path=os.path.abspath("data"), dataset_path="data"),
        Upload(ref="step:create"),
        Finalize(ref="step:create"),
    )
    with open_session() as session:
        session.run(Build(stages=tuple(Stage(id=each.verb, request=each) for each in requests)))


match step:
    case "add v1":
        drafted("v1", [])
    case "push v1":
        stored("v1")
    case "build v1":
        built()
    case "nothing changed":
        again = Dataset.create("again", "bench", [ids["v1"]])
        assert again.sync_folder("data", dataset_path="data") == (0, 0)
        assert not again.is_dirty()
    case "add v2":
        drafted("v2", [ids["v1"]])
    case "push v2":
        stored("v2")
    case "diff":
        changed = Dataset(ids["v2"]).diff(ids["v1"])
        assert changed.modified
    case "get v2":
        Dataset(ids["v2"]).get_mutable_local_copy(work / "out")
    case "verify":
        assert Dataset(ids["v2"]).verify_dataset_hash(work / "out") == []
    case _:
        raise SystemExit(f"no operation {step!r}")
