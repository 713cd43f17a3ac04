"""Any files, packed any way, come back from the chunk; any damage is found."""

from __future__ import annotations

import hashlib
import io
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.copies import examine
from dataset_tasks.errors import IntegrityError
from dataset_tasks.manifest.columns import entries
from dataset_tasks.members import member_pieces, read_member
from dataset_tasks.testing.memory_store import MemoryStore
from dataset_tasks.zipformat import member_name

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and ":" not in part
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).map(str.encode)
CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=40), st.integers(0, 4000)),
)
FILES = st.dictionaries(PATHS, CONTENTS, max_size=12)


@given(FILES, st.sampled_from(["deflate", "store"]))
def test_files_come_back_from_a_chunk_by_us_and_by_zipfile(files: dict[bytes, bytes], compression: str) -> None:
    store = MemoryStore()
    with store.create("c") as sink:
        writer = ChunkWriter(sink, compression)
        members = [
            writer.add(io.BytesIO(content), path, len(content), hashlib.sha256(content).digest())
            for path, content in files.items()
        ]
        size, digest = writer.finish()
        sink.commit()
    data = store.get("c")
    assert (size, digest) == (len(data), hashlib.sha256(data).hexdigest())
    reader = store.open("c")
    for member in members:
        assert read_member(reader, member) == files[member.path]
        assert b"".join(member_pieces(reader, member)) == files[member.path]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        found = {name.encode(): archive.read(name) for name in archive.namelist()}
    assert found == {member_name(path): content for path, content in files.items()}


@given(PATHS)
def test_member_names_are_ascii_safe_and_tell_paths_apart(path: bytes) -> None:
    name = member_name(path)
    assert name.isascii()
    assert name.decode().isprintable()
    assert name == path or name.startswith(b"_/")
    assert member_name(name) != name or name == path  # our own folder is never taken from a path
    if name != path:
        assert member_name(name) != name


@given(FILES, st.data())
def test_no_damage_to_a_chunk_goes_unseen(files: dict[bytes, bytes], data: st.DataObject) -> None:
    store = MemoryStore()
    with store.create("c") as sink:
        writer = ChunkWriter(sink)
        members = [writer.add(io.BytesIO(files[path]), path, len(files[path])) for path in sorted(files)]
        writer.finish()
        sink.commit()
    if not members:
        return
    table = entries(
        paths=[member.path for member in members],
        sizes=[member.size for member in members],
        hashes=[member.sha256 for member in members],
        owner="0" * 32,
        chunks=["c"] * len(members),
        offsets=[member.offset for member in members],
        stored=[member.stored for member in members],
        methods=[member.method for member in members],
    )
    assert examine([table], store.open) == {}
    sound = store.get("c")
    at = data.draw(st.integers(0, len(sound) - 1))
    damage = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if damage == "flip":
        store.objects["c"] = sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :]
    else:
        store.objects["c"] = sound[:at] if damage == "cut" else sound[:at] + b"!" + sound[at:]
    bad = examine([table], store.open)
    for member in members:
        try:
            assert read_member(store.open("c"), member) == files[member.path]
        except IntegrityError:
            assert member.path in bad
        else:
            assert member.path not in bad
