"""Names and bytes of archives, as other tools read them."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dataset_tasks.chunks import ChunkWriter
from dataset_tasks.zipformat import member_name

KEPT = [
    b"a", b"a/b/c", b".gitignore", b".git/config", b"a b.txt", b"_a", b"a/_/b", b"__init__.py", b"x" * 255, b"0",
    b"image[1].png", b"100%.csv", b"it's", b"a&b", b"a$b", b"a!b", b"~a", b"a~", b"(a)", b"{a}", b"a=b,c+d@e^f",
    b"...a", b"a..b", b"console", b"com", b"comet", b"nula", b"a-", b"CONFIG", b"aux_1", b"lpt",
    b"d" * 255 + b"/" + b"f" * 255 + b"/g",
]  # fmt: skip
HASHED = [
    b"-a", b"a/-b", b"a.", b"a./b", b" a", b"a ", b"a /b", b"a/ b", b"_", b"_/a", b"_/" + b"0" * 64, b"a:b", b"a*", b"a?",
    b'a"b', b"a<b", b"a>b", b"a|b", b"a\\b", b"a;1", b"a`b", b"a#b", b"a\nb", b"a\n", b"a\tb", b"a\x1b[31m", b"\x7f",
    "é".encode(), "e\u0301".encode(), "日本".encode(), "\u202e".encode(), b"\xff", b"con", b"CON", b"a/Nul.txt", b"aux",
    b"prn.tar.gz", b"COM1", b"lpt9.x", b"conin$", b"x" * 256, b"/".join([b"y" * 99] * 11),
]  # fmt: skip


@pytest.mark.parametrize("path", KEPT)
def test_a_name_that_every_unzip_writes_alike_is_the_path(path: bytes) -> None:
    assert member_name(path) == path


@pytest.mark.parametrize("path", HASHED)
def test_any_other_name_is_a_hash_of_the_path(path: bytes) -> None:
    assert member_name(path) == b"_/" + hashlib.sha256(path).hexdigest().encode()


def test_a_long_bad_name_is_told_in_time() -> None:
    for path in (b"a" * 4000, b"a/" * 2000, b"." * 4000, b"a." * 2000 + b"\n", b"con/" * 1000, b" " * 4000):
        assert member_name(path[:1000] + b"\n").startswith(b"_/")
        assert member_name(path).startswith(b"_/")


def archive(path: Path, files: dict[bytes, bytes]) -> None:
    with path.open("wb") as sink:
        writer = ChunkWriter(sink)
        for name, content in files.items():
            writer.add(io.BytesIO(content), name, len(content))
        writer.finish()


def by_unzip(source: Path, target: Path) -> None:
    subprocess.run(["unzip", "-qq", source, "-d", target], check=True)


def by_zipfile(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as opened:
        assert opened.testzip() is None
        opened.extractall(target)


def by_bsdtar(source: Path, target: Path) -> None:
    target.mkdir()
    env = {**os.environ, "LC_ALL": "C"}  # where non-ASCII names would be skipped
    subprocess.run(["bsdtar", "-xf", source, "-C", target], check=True, env=env)


TOOLS = [
    pytest.param(
        tool,
        id=name,
        marks=pytest.mark.skipif(name != "zipfile" and shutil.which(name) is None, reason=f"{name} is not installed"),
    )
    for name, tool in (("unzip", by_unzip), ("zipfile", by_zipfile), ("bsdtar", by_bsdtar))
]


@pytest.mark.parametrize("extract", TOOLS)
def test_tools_write_every_file_under_its_member_name(extract: Callable[[Path, Path], None], tmp_path: Path) -> None:
    singles = [bytes([code]) for code in range(1, 256) if code != 0x2F]
    around = [b"x" + single + b"y" for single in singles] + [single + b"z" for single in singles]
    names = dict.fromkeys([*KEPT, *HASHED, *singles, *around])
    files = {name: b"content of " + name * 20 for name in names if name not in (b".", b"..", b"a/_/b")}
    files = {name: content for name, content in files.items() if not any(o.startswith(name + b"/") for o in files)}
    archive(tmp_path / "a.zip", files)
    extract(tmp_path / "a.zip", tmp_path / "out")
    top = os.fsencode(tmp_path / "out")
    found = {
        os.path.join(folder, name)[len(top) + 1 :]: Path(os.fsdecode(os.path.join(folder, name))).read_bytes()
        for folder, _, names_there in os.walk(top)
        for name in names_there
    }
    assert found == {member_name(name): content for name, content in files.items()}


def tell(source: Path) -> list[int]:
    """How many members each tool that is there counts."""
    counts = [len(zipfile.ZipFile(source).namelist())]
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", source], check=True)
        counts.append(
            len(subprocess.run(["unzip", "-Z1", source], check=True, capture_output=True).stdout.splitlines())
        )
    if shutil.which("bsdtar"):
        counts.append(
            len(subprocess.run(["bsdtar", "-tf", source], check=True, capture_output=True).stdout.splitlines())
        )
    return counts


@pytest.mark.parametrize("count", [0, 1, 0xFFFE, 0xFFFF, 70_000])
def test_tools_open_archives_of_any_number_of_members(count: int, tmp_path: Path) -> None:
    with (tmp_path / "a.zip").open("wb") as sink:
        writer = ChunkWriter(sink)
        for number in range(count):
            writer.add(io.BytesIO(b"%d" % number), b"f/%06d" % number, len(b"%d" % number))
        writer.finish()
    if count:
        assert set(tell(tmp_path / "a.zip")) == {count}
        with zipfile.ZipFile(tmp_path / "a.zip") as opened:
            assert opened.read(f"f/{count - 1:06d}") == b"%d" % (count - 1)
    else:
        assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == []


class SparseFile:
    """Writes zeros as holes, so that archives beyond 4 GiB take no space."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=0)
        self.zeros = bytes(1 << 20)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data == self.zeros or data == self.zeros[: len(data)]:
            self.file.seek(len(data), os.SEEK_CUR)
        else:
            self.file.write(data)


@pytest.mark.slow
def test_tools_read_a_member_of_5_gib_and_one_beyond_4_gib(tmp_path: Path) -> None:
    size = 5 << 30
    with (tmp_path / "big").open("wb") as big:
        big.truncate(size)
    sink = SparseFile(tmp_path / "a.zip")
    writer = ChunkWriter(sink, "store")
    with (tmp_path / "big").open("rb") as big:
        member = writer.add(big.fileno(), b"big", size)
    small = writer.add(io.BytesIO(b"hello"), b"small", 5)
    writer.finish()
    sink.file.close()
    assert member.stored == size
    assert small.offset > 1 << 32
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert [(found.filename, found.file_size) for found in opened.infolist()] == [("big", size), ("small", 5)]
        assert opened.read("small") == b"hello"
    for command in (["unzip", "-p"], ["bsdtar", "-xOf"]):
        if shutil.which(command[0]):
            got = subprocess.run([*command, tmp_path / "a.zip", "small"], check=True, capture_output=True).stdout
            assert got == b"hello"


@pytest.mark.slow
def test_a_member_of_5_gib_that_shrinks_is_read_back_by_tools(tmp_path: Path) -> None:
    size = 5 << 30
    with (tmp_path / "big").open("wb") as big:
        big.truncate(size)
    with (tmp_path / "big").open("rb") as big, (tmp_path / "a.zip").open("wb") as sink:
        writer = ChunkWriter(sink, scratch=tmp_path)
        writer.add(big.fileno(), b"big", size)
        writer.finish()
    assert (tmp_path / "a.zip").stat().st_size < size / 100
    with zipfile.ZipFile(tmp_path / "a.zip") as opened, opened.open("big") as stream:
        assert sum(map(len, iter(lambda: stream.read(16 << 20), b""))) == size
    for command in (["unzip", "-p"], ["bsdtar", "-xOf"]):
        if shutil.which(command[0]):
            with subprocess.Popen([*command, tmp_path / "a.zip", "big"], stdout=subprocess.PIPE) as tool:
                assert tool.stdout is not None
                assert sum(map(len, iter(partial(tool.stdout.read, 16 << 20), b""))) == size
            assert tool.returncode == 0


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    dice = random.Random(1)
    files = {b"%d" % number: dice.randbytes(number * 100) for number in range(50)}
    archive(tmp_path / "a", files)
    archive(tmp_path / "b", files)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_layout_is_as_promised(tmp_path: Path) -> None:
    archive(tmp_path / "a", {b"dir/name": b"tiny", b"\xff": b"y" * 1000})
    data = (tmp_path / "a").read_bytes()
    crc = zlib.crc32(b"tiny").to_bytes(4, "little")
    local = b"PK\3\4\x14\0\0\0\0\0\0\0\x21\0" + crc + b"\4\0\0\0\4\0\0\0\x08\0\0\0dir/name"
    assert data.startswith(local + b"tinyPK\3\4")
    with zipfile.ZipFile(tmp_path / "a") as opened:
        for found in opened.infolist():
            assert found.date_time == (1980, 1, 1, 0, 0, 0)
            assert found.external_attr == 0o100444 << 16
            assert (found.flag_bits, found.extra, found.comment) == (0, b"", b"")
        assert opened.comment == b""
