"""Operations whose every step is interrupted by the sweep: what stands before, the call, and what is to be seen after."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from dataset_tasks import mutable
from dataset_tasks.catalog.collect import Keep
from dataset_tasks.model import Input, State, Version
from dataset_tasks.ops.requests import (
    AddFiles,
    Approve,
    Build,
    Collect,
    Copy,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Repack,
    Repair,
    Request,
    Squash,
    Stage,
    SyncFolder,
    Transform,
    Undelete,
    Upload,
    Verify,
)
from dataset_tasks.ops.wire import to_json
from dataset_tasks.report import Logger
from dataset_tasks.session import Session, open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.run import run_plan
from dataset_tasks.testing.invariants import assert_invariants

KEY = "sweep/operation"
#: What two runs of the same may differ in: sizes of objects with random keys in them, times, counts of what a call
#: found left to do.
_PASSING = {"new_bytes", "seconds", "why"}
#: Done again against the draft, these count what was left to do.
_COUNTS = {"added", "modified", "removed", "files", "bytes", "stored_bytes", "chunks"}

Call = Callable[[Session, Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` makes what stands before in a home folder; `call` is the operation, the same on every try.

    `drops`: on an error the operation gives its draft up, so that the retry makes another id. `repeats`: it has no key,
    so that its events come once a call.
    """

    name: str
    prepare: Callable[[Session, Path], None]
    call: Call
    drops: bool = False
    repeats: bool = False


# --- what stands before


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def content(seed: int, count: int = 5, size: int = 700) -> dict[str, bytes]:
    """Files that do not compress, so that small chunks are full soon."""
    import random

    chance = random.Random(seed)
    return {f"{'ab'[n % 2]}/{seed}-{n}.bin": chance.randbytes(size) for n in range(count)}


def make(
    session: Session, home: Path, name: str, seed: int, *, parents: tuple[str, ...] = (), count: int = 5, **upload: Any
) -> Version:
    """A final version with a few files of its own."""
    made = session.run(Create(name=name, project="p", parents=parents))
    session.run(
        AddFiles(ref=made.version_id, path=str(write(home.parent / f"source-{name}-{seed}", content(seed, count))))
    )
    session.run(Upload(ref=made.version_id, max_workers=1, **upload))
    session.run(Finalize(ref=made.version_id))
    return session.catalog.version(made.version_id)


def history(session: Session, home: Path) -> None:
    """`p/d` with two versions, the first published and aliased, and `p/e` with one."""
    first = make(session, home, "d", 1)
    session.run(Publish(ref=first.id, alias="good"))
    make(session, home, "d", 2, parents=(first.id,))
    make(session, home, "e", 3)


def draft(session: Session, home: Path) -> None:
    """A draft `p/d@3` on top, with files to be uploaded and one removed."""
    history(session, home)
    made = session.run(Create(name="d", project="p", parents=("p/d@1.0.1",), version="3"))
    session.run(AddFiles(ref=made.version_id, path=str(write(home.parent / "new", content(4, 6)))))
    session.run(RemoveFiles(ref=made.version_id, patterns=("a/1-0.bin",)))


def uploaded(session: Session, home: Path) -> None:
    draft(session, home)
    session.run(Upload(ref="p/d@3", max_workers=1, chunk_size=0.0015))


def unchanged(session: Session, home: Path) -> None:
    history(session, home)
    last = session.catalog.resolve("p/d@1.0.1")
    session.run(Create(name="d", project="p", previous=True, version="3", skip_unchanged=True))
    assert last.id


def cached(session: Session, home: Path) -> None:
    history(session, home)
    session.run(GetCopy(ref="p/d@1.0.0"))


def deleted(session: Session, home: Path) -> None:
    """Of `history`, `p/d@1.0.1` is a tombstone."""
    history(session, home)
    session.run(Delete(ref="p/d@1.0.1"))


def littered(session: Session, home: Path) -> None:
    """All that gc has to do with: tombstones, a retention, a dropped draft, heads of a draft, a write that never ended."""
    deleted(session, home)
    for seed in (7, 8, 9):
        make(session, home, "r", seed)
    session.catalog.set_retention("p", "r", Keep(last=1))
    draft = session.run(Create(name="d", project="p", parents=("p/d@1.0.0",), version="3"))
    session.run(AddFiles(ref=draft.version_id, path=str(write(home.parent / "new", content(4, 6)))))
    session.run(Upload(ref=draft.version_id, max_workers=1, chunk_size=0.0015))
    session.run(RemoveFiles(ref=draft.version_id, patterns=("a/1-0.bin",)))
    dropped = session.run(Create(name="e", project="p", parents=("p/e@latest",)))
    session.run(AddFiles(ref=dropped.version_id, path=str(home.parent / "new")))
    session.run(Delete(ref=dropped.version_id))
    session.objects.begin("", session.store_id(), ["chunks/" + "0" * 32 + ".zip"])
    session.objects.store(session.store_id()).create(session.objects.full_key("packs/" + "0" * 32 + ".parquet")).write(
        b"x"
    )


def sparse(session: Session, home: Path) -> None:
    """Two versions and a draft need two files of a chunk of twelve."""
    first = make(session, home, "q", 10, count=12)
    for child in ("q", "q2"):
        made = session.run(Create(name=child, project="p", parents=(first.id,)))
        session.run(RemoveFiles(ref=made.version_id, patterns=("b/", "a/10-[24]*", "a/10-6.bin")))
        session.run(Finalize(ref=made.version_id))
    session.run(Create(name="q", project="p", parents=("p/q@latest",)))
    session.run(Delete(ref=first.id, force=True))
    session.run(Collect(dry_run=False, now=True, idle=0.0))


def broken(session: Session, home: Path) -> None:
    """A chunk of two versions is cut; the cache has a copy of one, and another store the chunk of a third."""
    history(session, home)
    session.run(GetCopy(ref="p/d@1.0.1"))
    store, full_key = session.objects.store(session.store_id()), session.objects.full_key
    write(home.parent / "target" / "backup", {key: store.get(key) for key, _ in store.list()})
    made = {v.label: v for v in session.catalog.versions(project="p")}
    for label in ("p/d@1.0.0", "p/e@1.0.0"):
        (chunk,) = session.catalog.objects_of(made[label].id, "chunk")
        store.put(full_key(chunk.key), store.get(full_key(chunk.key))[:1500])
    shutil.rmtree(home.parent / "target" / "backup" / session.catalog.id / "indexes")
    (chunk,) = session.catalog.objects_of(made["p/d@1.0.0"].id, "chunk")
    os.unlink(home.parent / "target" / "backup" / session.catalog.id / chunk.key)


def told(session: Session, home: Path) -> None:
    """`history`, with a text about the last version and a file about the one it was made from."""
    history(session, home)
    Logger(session, session.catalog.resolve("p/d@1.0.1").id).report_text("it went well")
    image = write(home.parent / "image", {"image.png": b"image"}) / "image.png"
    Logger(session, session.catalog.resolve("p/d@1.0.0").id).report_image("look", "one", local_path=image)


# --- the calls


def request(make_request: Callable[[Path], Request]) -> Call:
    def call(session: Session, home: Path) -> dict[str, Any]:
        asked = make_request(home)
        seen = to_json(session.run(asked, key=KEY))
        passing = _PASSING if asked.once else _PASSING | _COUNTS
        return {name: value for name, value in seen.items() if name not in passing}

    return call


def function(inputs: Mapping[str, Path], output: Path) -> dict[str, Any]:
    """A transform: every input file's size, in files of two folders."""
    for name, folder in inputs.items():
        for path in sorted(folder.rglob("*.bin")):
            target = output / name / f"{path.name}.txt"
            target.parent.mkdir(exist_ok=True)
            target.write_text(str(path.stat().st_size))
    return {"rows": 5}


def build(session: Session, home: Path) -> dict[str, Any]:
    stages = (
        Stage(
            id="f.create",
            request=Create(
                name="f", project="p", inputs=(Input(name="d", ref="p/d@1.0.1", files=()),), skip_unchanged=True
            ),
        ),
        Stage(id="f.transform", request=Transform(ref="step:f.create", call="sweep:function", code_version="1")),
        Stage(id="f.upload", request=Upload(ref="step:f.create", max_workers=1, chunk_size=0.00001)),
        Stage(id="f.finalize", request=Finalize(ref="step:f.create")),
        Stage(id="f.verify", request=Verify(ref="step:f.finalize")),
    )
    result = session.run(Build(stages=stages), key=KEY, functions={"sweep:function": function})
    return {"version": result.version, "version_id": result.version_id}


SPEC = """
name: sweep
version: 1
project: p
datasets:
  raw:
    add: [{path: ../source-spec}]
  made:
    inputs: {raw: raw}
    transform: {run: [/bin/sh, -c, "cat ${inputs.raw}/a/*.bin | wc -c > ${output}/size.txt"]}
    verify: true
    publish: {alias: good}
"""


def specced(session: Session, home: Path) -> None:
    history(session, home)
    write(home.parent / "source-spec", content(6, 4))
    (home.parent / "spec").mkdir()
    (home.parent / "spec" / "spec.yaml").write_text(SPEC)


def spec(session: Session, home: Path) -> dict[str, Any]:
    plan = compile_spec(home.parent / "spec" / "spec.yaml", environ={})
    report = run_plan(plan, session, run_id="sweep", jobs=1)
    failed = [each.error for each in report.outcomes if each.error is not None]
    if failed:
        raise failed[0]
    return {each.step: each.result.version for each in report.outcomes if each.result is not None}


def answered(session: Session, home: Path) -> dict[str, Any]:
    """Asks whether a version may be published, says yes, and publishes it."""
    version = session.catalog.resolve("p/d@1.0.1")
    session.run(Approve(ref=version.id, timeout=86_400.0), key=KEY)
    session.catalog.answer(version.id, True, "ana")  # said again, the answer changes nothing
    session.run(Publish(ref=version.id), key=f"{KEY}/publish")
    now, question = session.catalog.version(version.id), session.catalog.approval(version.id)
    return {"state": now.state, "quarantined": now.quarantined, "answer": question.state if question else ""}


def copied(session: Session, home: Path, **wanted: Any) -> dict[str, Any]:
    result = session.run(GetCopy(ref="p/d@1.0.1", **wanted), key=KEY)
    return {"files": result.files, "bytes": result.bytes, "tree": tree(Path(result.folder))}


def copied_to(session: Session, home: Path, *, two_steps: bool = False, **wanted: Any) -> dict[str, Any]:
    if two_steps:
        mutable._renameat2 = lambda: None
    return copied(session, home, target=str(home.parent / "target" / "copy"), **wanted)


def filled(session: Session, home: Path) -> None:
    history(session, home)
    write(home.parent / "target" / "copy", {"mine.txt": b"mine"})


def damaged(session: Session, home: Path) -> None:
    """The cached copy has a file with other bytes and one that is gone."""
    history(session, home)
    folder = Path(session.run(GetCopy(ref="p/d@1.0.1")).folder)
    os.chmod(folder / "a", 0o755)
    os.unlink(folder / "a" / "1-0.bin")
    victim = folder / "b" / "1-1.bin"
    os.chmod(victim, 0o644)
    victim.write_bytes(b"x" * 700)


def labels(session: Session, home: Path) -> dict[str, Any]:
    version = session.catalog.resolve("p/d@1.0.1")
    session.change(version.id, lambda now: {"tags": ("t",), "metadata": {"k": 1}, "description": "told"})
    session.set_alias(version, "best")
    return {"id": version.id}


def collected(session: Session, home: Path) -> dict[str, Any]:
    """What gc left: everything that nobody needs is gone, nothing else."""
    session.run(Collect(dry_run=False, now=True, idle=0.0), key=KEY)
    store = session.objects.store(session.store_id())
    kinds = [key.split("/")[1] for key, _ in store.list() if "/journal/" not in key]
    return {"objects": {kind: kinds.count(kind) for kind in sorted(set(kinds))}, "left": leftovers(session)}


def freed(session: Session, home: Path) -> dict[str, Any]:
    """Repacks and frees; what a killed try had copied already may be there twice, for some versions each."""
    session.run(Repack(dry_run=False), key=KEY)
    session.run(Collect(dry_run=False, now=True, idle=0.0), key=f"{KEY}/gc")
    store = session.objects.store(session.store_id())
    large = [key for key, size in store.list() if "/chunks/" in key and size > 4000]
    return {"large": large, "left": leftovers(session)}


def healed(session: Session, home: Path) -> dict[str, Any]:
    result = session.run(Repair(copies=(str(home.parent / "target" / "backup"),)), key=KEY)
    return {"lost": list(result.lost), "quarantined": list(result.quarantined)}


def carried(session: Session, home: Path) -> dict[str, Any]:
    """What another catalog holds after a copy into it."""
    there = home / "there"
    place = {"catalog_url": f"sqlite:///{there}/catalog.db", "store_url": str(there / "store")}
    session.run(Copy(ref="p/d@1.0.1", to_catalog=place["catalog_url"], to_store=place["store_url"]), key=KEY)
    with open_session(home=there, **place) as other:
        assert_invariants(other)
        return {"reports": reports(other), "stray": leftovers(other)["stray"], **state(other, home)}


def relocated(session: Session, home: Path) -> dict[str, Any]:
    """How many objects each version has in another store and elsewhere after a copy to it, and what was reported."""
    there = str(home / "there")
    session.run(Copy(ref="p/d@1.0.1", to_store=there), key=KEY)
    held = {}
    for version in session.catalog.versions():
        places = [ref.store_id for ref in session.manifest(version).index.objects.values()]
        far = places.count(session.store_id(there))
        held[version.id] = [far, len(places) - far]
    return {"held": held, "reports": reports(session)}


def reports(session: Session) -> dict[str, Any]:
    """What was reported about each version, with the bytes of files."""
    found = {}
    for version in session.catalog.versions():
        logger = Logger(session, version.id)
        found[version.id] = [
            [each.kind, each.title, each.series, logger.read_media(each).hex() if each.file else each.value]
            for each in logger.reports()
        ]
    return found


SCENARIOS = [
    Scenario("create", history, request(lambda home: Create(name="d", project="p", parents=("p/d@1.0.1",), tags=("x",)))),
    Scenario("create-merged", history, request(lambda home: Create(name="m", project="p", parents=("p/d@latest", "p/e@latest")))),
    Scenario("add", draft, request(lambda home: AddFiles(ref="p/d@3", path=str(home.parent / "source-e-3")))),
    Scenario("sync", draft, request(lambda home: SyncFolder(ref="p/d@3", path=str(home.parent / "source-d-2")))),
    Scenario("remove", draft, request(lambda home: RemoveFiles(ref="p/d@3", patterns=("a/",)))),
    Scenario("upload", draft, request(lambda home: Upload(ref="p/d@3", max_workers=1, chunk_size=0.0015))),
    Scenario("upload-threads", draft, request(lambda home: Upload(ref="p/d@3", max_workers=2, chunk_size=0.0015))),
    Scenario("finalize", uploaded, request(lambda home: Finalize(ref="p/d@3"))),
    Scenario("finalize-unchanged", unchanged, request(lambda home: Finalize(ref="p/d@3"))),
    Scenario("publish", history, request(lambda home: Publish(ref="p/d@1.0.1", alias="good"))),
    Scenario("squash-one", history, request(lambda home: Squash(name="s", refs=("p/d@1.0.1",))), drops=True),
    Scenario("squash-two", history, request(lambda home: Squash(name="s", refs=("p/d@1.0.0", "p/d@1.0.1"))), drops=True),
    Scenario("delete-final", history, request(lambda home: Delete(ref="p/d@1.0.1"))),
    Scenario("delete-draft", draft, request(lambda home: Delete(ref="p/d@3"))),
    Scenario("get-cached", history, copied),
    Scenario("get-from-parent", cached, copied),
    Scenario("get-links", history, partial(copied, soft_links=True)),
    Scenario("get-mend", damaged, copied),
    Scenario("get-folder", history, copied_to),
    Scenario("get-overwrite", filled, partial(copied_to, overwrite=True)),
    Scenario("get-overwrite-in-two", filled, partial(copied_to, overwrite=True, two_steps=True)),
    Scenario("build", history, build, drops=True),
    Scenario("spec", specced, spec, drops=True),
    Scenario("approve", history, answered, repeats=True),
    Scenario("labels", history, labels, repeats=True),
    Scenario("undelete", deleted, request(lambda home: Undelete(ref="p/d@1.0.1"))),
    Scenario("gc", littered, collected),
    Scenario("repack", sparse, freed, repeats=True),
    Scenario("repair", broken, healed, repeats=True),
    Scenario("copy-catalog", told, carried),
    Scenario("copy-store", told, relocated),
]  # fmt: skip


# --- what is to be seen after


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its bytes; hidden names too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes().hex()[:64]
    return found


def state(session: Session, home: Path) -> dict[str, Any]:
    """All that a user can see of a catalog, by the ids of versions."""
    catalog = session.catalog
    versions = {}
    label = {each.id: each.label for each in catalog.versions(states=tuple(State))}
    for version in catalog.versions(states=tuple(State)):
        manifest = session.manifest(version)
        versions[f"{version.label} {version.id}"] = {
            "state": str(version.state),
            "files": {os.fsdecode(e.path): [e.size, e.hash.hex()] for e in manifest.entries()},
            "pending": version.pending,
            "parents": [label[each] for each in version.parents],
            "inputs": [[each.name, label[each.ref]] for each in version.inputs],
            "tags": list(version.tags),
            "metadata": dict(version.metadata),
            "description": version.description,
            "aliases": sorted(
                a for a, held in catalog.aliases(version.project, version.name).items() if held == version.id
            ),
            "events": [event.kind for event in catalog.events(version_id=version.id)],
        }
    return json.loads(json.dumps({"versions": versions, "outside": outside(home)}, sort_keys=True))


def plain(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Of a state what chance does not decide: without ids, and without drafts that were given up."""
    left = {name.rpartition(" ")[0]: each for name, each in seen["versions"].items() if each["state"] != State.ABORTED}
    return {"versions": left, "outside": seen["outside"]}


def read_once(session: Session) -> None:
    """From now on the session reads and checks each object of a manifest the first time only: nothing writes any more."""
    session.objects.read = cache(session.objects.read)  # type: ignore[method-assign]


def outside(home: Path) -> dict[str, Any]:
    """The folders of the user: sources as they were, targets, and what lies beside them."""
    place = home.parent
    return {
        each.name: tree(each) if each.is_dir() else "file"
        for each in sorted(place.iterdir())
        if each.name not in {home.name, "report.json"}
    }


def leftovers(session: Session) -> dict[str, int]:
    """What lies about and serves nothing: it costs space until `gc`, and must be little."""
    catalog = session.catalog
    drafts = {each.id for each in catalog.versions(states=(State.IN_PROGRESS,))}
    rows = [each for v in catalog.versions(states=tuple(State)) for each in catalog.objects_of(v.id)]
    rows += catalog.objects_of("")
    known = {each.key for each in rows}
    parts = stray = 0
    for store_id in catalog.stores():
        store = session.objects.store(store_id)
        parts += len(list(store.leftovers()))
        keys = [key.partition("/")[2] for key, _ in store.list()]
        stray += len([key for key in keys if key not in known and not key.startswith(("journal/", "owner"))])
    scratch = session.settings.cache_dir / "scratch"
    kept = [each.name for each in scratch.glob("*/*") if each.name not in drafts]
    hidden = [p for p in session.settings.cache_dir.rglob(".*") if "scratch" not in p.parts]
    return {
        "rows": len([each for each in rows if each.state == "writing"]),
        "parts": parts,
        "stray": stray,
        "scratch": len(kept),
        "cache": len(hidden),
    }


def clear(place: Path) -> None:
    """Removes a folder also where trees in it are read-only."""
    if place.exists():
        for folder, _, _ in os.walk(place):
            os.chmod(folder, 0o755)
        shutil.rmtree(place)
