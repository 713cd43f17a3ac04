"""Every reader of what others wrote, as a function of bytes: it gives an answer or raises one of our own errors.

Anything else that escapes is a bug, and so are minutes or gigabytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from dataset_tasks import paths
from dataset_tasks.errors import DatasetError
from dataset_tasks.external import urls
from dataset_tasks.manifest import Manifest, apply
from dataset_tasks.manifest.index import Index
from dataset_tasks.members import DEFLATED, STORED, Member, member_pieces, unpack
from dataset_tasks.model import Reference
from dataset_tasks.ops.requests import OPERATIONS
from dataset_tasks.ops.wire import request_from_json
from dataset_tasks.pending import Pending
from dataset_tasks.spec import schema
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.document import read_document
from dataset_tasks.spec.problems import Problems
from dataset_tasks.spec.validate import read_model
from dataset_tasks.testing.manifests import SMALL, STORE_ID, Shelf, chunk_ref, file_entry, table_of

SPECS = Path(__file__).resolve().parent.parent.parent / "example_flows" / "specs"


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes any bytes; `seeds` are good ones to begin from, `words` what a mutation may put in."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()


def spec(data: bytes) -> None:
    """A spec's text, up to its model: all problems at once, or a model."""
    problems = Problems("fuzzed.yaml")
    document = read_document(data, problems)
    if document is not None:
        read_model(schema.Pipeline, document, problems, stand_ins={"version": 1, "name": "spec"})
    for each in problems.found:
        str(each)


def plan(data: bytes) -> None:
    """A spec's file, up to the compiled plan."""
    place = _scratch() / "fuzzed.yaml"
    place.write_bytes(data)
    compile_spec(place, environ={}, check_sources=False)


def index(data: bytes) -> None:
    """A version's index, and every entry that it leads to."""
    manifest = Manifest(Index.from_bytes(data), lambda ref: _objects()[ref.key])
    for batch in manifest.batches():
        batch.num_rows  # decoding is the point


def pack(data: bytes) -> None:
    """A pack, read through the index that names it."""
    (key,) = [key for key in _objects() if "pack" in key]
    manifest = Manifest(_index(), lambda ref: data if ref.key == key else _objects()[ref.key])
    for batch in manifest.batches():
        batch.num_rows


def pending(data: bytes) -> None:
    """The list of where pending files are."""
    held = Pending(data)
    held.rows()
    held.sources(pa.array([b"a", b"b"], pa.binary()))


def member(data: bytes) -> None:
    """The bytes of a member, whole and in pieces; never more than the manifest says."""
    for method in (STORED, DEFLATED):
        for size in (0, 5, 1000):
            digest = hashlib.sha256(b"x" * size).digest()
            try:
                assert len(unpack(data, b"p", size, digest, method)) == size
            except DatasetError:
                pass
            chunk = Chunk(data)
            held = 0
            try:
                for piece in member_pieces(chunk, Member(b"p", size, digest, 0, len(data), method)):
                    held += len(piece)
            except DatasetError:
                pass
            assert held <= size


def path(data: bytes) -> None:
    """A dataset path as a user writes it: refused, or one that stays one and leads nowhere else."""
    text = data.decode(errors="surrogateescape")
    found = paths.normalise(text)
    assert not found.startswith(b"/")
    assert b".." not in found.split(b"/")
    assert not found or not paths.fault(found)
    paths.show(data).encode("ascii", "backslashreplace")
    paths.fold(found)


def pattern(data: bytes) -> None:
    """A wildcard and a path, in time that grows with both and no faster."""
    text, _, name = data.partition(b"\n")
    wanted = text.decode(errors="surrogateescape")
    for recursive in (True, False):
        for make in (
            lambda r=recursive: paths.DatasetPattern(wanted, r).matches(name),
            lambda r=recursive: paths.SourceFilter(wanted, (), r).matches(name),
        ):
            try:
                make()
            except DatasetError:
                pass


def wire(data: bytes) -> None:
    """A request that came as JSON."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    for verb in OPERATIONS:
        try:
            request_from_json({**document, "verb": verb} if isinstance(document, dict) else document)
        except DatasetError:
            pass


def reference(data: bytes) -> None:
    """A reference to a version."""
    Reference.parse(data.decode(errors="replace"))


def url(data: bytes) -> None:
    """The URL of a link or a bucket; what is shown of it holds no secret."""
    text = data.decode(errors="replace")
    shown = urls.masked(text)
    secret = text.rpartition("@")[0].partition("://")[2]
    assert "hunter2" not in secret or "hunter2" not in shown
    urls.canonical(text)


class Chunk(io.BytesIO):
    """A chunk in memory."""

    def pread(self, offset: int, length: int) -> bytes:
        return self.getvalue()[offset : offset + length]


# --- good ones to begin from


@cache
def _scratch() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="dataset-tasks-fuzz-"))


@cache
def _stored() -> tuple[Index, dict[str, bytes]]:
    """A small manifest of many segments, and its pack."""
    shelf = Shelf()
    files = table_of([file_entry(b"f/%03d" % at, at, chunk="chunk" if at % 3 else None) for at in range(40)])
    full = replace(SMALL, max_segments=100)  # one pack
    built = apply(
        Manifest.empty(), [files], new_key=shelf.new_key, store_id=STORE_ID,
        objects={"chunk": chunk_ref("chunk")}, limits=full,
    )  # fmt: skip
    return shelf.land(built).index, shelf.objects


def _index() -> Index:
    return _stored()[0]


def _objects() -> dict[str, bytes]:
    return _stored()[1]


def _pending_seed() -> bytes:
    from dataset_tasks.pending import Encoder, table
    from dataset_tasks.scan import Batch

    encoder = Encoder()
    batch = Batch([b"a", b"b"], [1, 2], [b"1" * 32, b"2" * 32], [b"/s/a", b"/s/b"], [1, 1], [1, 2], [3, 3], [4, 4])
    encoder.add(table(batch))
    return bytes(encoder.finish())


def _deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


_YAML = (
    b"datasets:", b"parents: [", b"sync: {path: ", b"&a", b"*a", b"<<: *a", b"!!python/object:os.system", b"${params.x}",
    b"${run.date}", b"version: 1", b"schedule: {cron: '0 6 * * *'}", b"? ", b"- ", b"{", b"}", b"[", b"]", b"\t", b"\xff", b"'",
    b'"', b"0x1f", b"1e3", b"~", b"|2\n", b"\x00", b"\xef\xbb\xbf", b"%YAML 1.1\n---\n", b"publish: {approval: {timeout: 1d}}",
)  # fmt: skip

TARGETS: Mapping[str, Target] = {
    "spec": Target(spec, lambda: [each.read_bytes() for each in sorted(SPECS.glob("*.yaml"))], _YAML),
    "plan": Target(plan, lambda: [each.read_bytes() for each in sorted(SPECS.glob("*.yaml"))], _YAML),
    "index": Target(index, lambda: [_index().to_bytes()]),
    "pack": Target(pack, lambda: [data for key, data in _objects().items() if "pack" in key]),
    "pending": Target(pending, lambda: [_pending_seed()]),
    "member": Target(member, lambda: [b"x" * 1000, _deflated(b"x" * 1000), _deflated(b"x" * 5)]),
    "path": Target(path, lambda: [b"a/b", "ü/%41".encode(), b"../x", b"C:\\x"], (b"..", b"/", b"\\", b"\x00", b"\x1b[2J", b"//")),
    "pattern": Target(pattern, lambda: [b"**/*.txt\na/b.txt", b"[a-z]*\nabc"], (b"**/", b"*", b"[", b"]", b"!", b"?", b"\\")),
    "wire": Target(wire, lambda: [b'{"ref": "p/d@1", "path": "/x"}'], (b"null", b"[]", b"{}", b"1e999", b'"step:a"')),
    "reference": Target(reference, lambda: [b"p/d@1.0.0", b"id:" + b"0" * 32, b"p/d@latest"], (b"@", b"/", b"id:", b"step:")),
    "url": Target(url, lambda: [b"s3://b/k", b"https://u:hunter2@h/p?q=1#f", b"file:///a"], (b"@", b":", b"//", b"%00", b"?")),
}  # fmt: skip


def mutate(chance: random.Random, data: bytes, target: Target) -> bytes:
    """Other bytes, near to the given ones."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(7):
            case 0 if made:
                made[at % len(made)] ^= 1 << chance.randrange(8)
            case 1 if made:
                made[at % len(made)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del made[at : at + chance.choice((1, 2, 8, 64))]
            case 3:
                made[at:at] = chance.randbytes(chance.choice((1, 4, 16)))
            case 4 if target.words:
                made[at:at] = chance.choice(target.words)
            case 5 if made:
                begin = chance.randrange(len(made))
                made[at:at] = made[begin : begin + chance.choice((1, 8, 64, 512))]
            case _:
                del made[at:]
    return bytes(made[:1_000_000])
