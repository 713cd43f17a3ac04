"""The data of the comparison, the same on every machine: `v1`, `v2`, and what changed between them.

S: 20,000 files of 4 KiB. M: 2,000 files of 10 KiB to 2 MiB, 1.1 GB. L: 4 files of 512 MiB. Half is text, CSV or JSON, half does
not compress. v2 changes a hundredth of the files, adds as many and removes as many; of L one file is edited in five
places, with an insertion in the middle.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KIB, MIB = 1024, 1024 * 1024
_CSV = b"00000000,00000000,0.00000000,-0.0000000,red,00000000,0.00000000\n"
_JSON = b'{"id": 00000000, "score": 0.00000000, "label": "cat", "tags": ["a", "b"], "n": 0000}\n'
_WORDS = ("version", "dataset", "with", "files", "rows", "train", "test", "label", "image", "column", "merge", "a")

Maker = Callable[[np.random.Generator, int], bytes]


def _noise(rng: np.random.Generator, size: int) -> bytes:
    return rng.bytes(size)


def _text(rng: np.random.Generator, size: int) -> bytes:
    picked = rng.integers(0, len(_WORDS), size // 3)
    return " ".join(_WORDS[at] for at in picked).encode()[:size].ljust(size, b".")


def _rows(line: bytes) -> Maker:
    """Repeats a line, each time with other digits in place of its zeros."""
    letters = np.frombuffer(line, np.uint8)
    zeros = np.flatnonzero(letters == ord("0"))

    def make(rng: np.random.Generator, size: int) -> bytes:
        table = np.tile(letters, (size // len(line) + 1, 1))
        table[:, zeros] = rng.integers(ord("0"), ord("9") + 1, (len(table), len(zeros)), dtype=np.uint8)
        return table.tobytes()[:size]

    return make


_csv, _json = _rows(_CSV), _rows(_JSON)


@dataclass(frozen=True, slots=True)
class File:
    """A file to be: `seed` and `maker` settle its bytes."""

    path: str
    size: int
    maker: Maker
    seed: int

    def bytes(self, edition: int = 1) -> bytes:
        """Its content; another edition has the same size and other bytes."""
        return self.maker(np.random.default_rng([self.seed, edition]), self.size)


def _small() -> Iterator[File]:
    for at in range(20_000):
        kind, maker = ("txt", _text) if at % 2 else ("bin", _noise)
        yield File(f"d{at % 200:03d}/f{at:05d}.{kind}", 4 * KIB, maker, at)


def _mixed() -> Iterator[File]:
    sizes = random.Random(7)
    kinds: tuple[tuple[str, Maker], ...] = (("csv", _csv), ("json", _json), ("png", _noise))
    for at in range(2000):
        kind, maker = kinds[at % 3]
        yield File(f"p{at % 40:02d}/m{at:04d}.{kind}", int(10 * KIB * 204.8 ** (sizes.random() ** 0.62)), maker, at)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _make_many(place: Path, files: list[File]) -> None:
    for each in files:
        _write(place / "v1" / each.path, each.bytes())
    count = len(files) // 100
    picked = random.Random(5).sample(range(len(files)), 3 * count)
    removed = {files[at].path for at in picked[:count]}
    changed = {files[at].path: files[at] for at in picked[count : 2 * count]}
    for each in files:
        if each.path not in removed:
            _hold(place, each.path, changed.get(each.path))
    for at in picked[2 * count :]:
        head, tail = os.path.split(files[at].path)
        _write(place / "v2" / head / f"new_{tail}", files[at].bytes(3))


def _hold(place: Path, path: str, changed: File | None) -> None:
    if changed is not None:
        _write(place / "v2" / path, changed.bytes(2))
        return
    (place / "v2" / path).parent.mkdir(parents=True, exist_ok=True)
    os.link(place / "v1" / path, place / "v2" / path)


def _make_large(place: Path) -> None:
    (place / "v1").mkdir(parents=True)
    (place / "v2").mkdir()
    for at in range(4):
        name = f"big{at}.{'bin' if at < 2 else 'csv'}"
        rng = np.random.default_rng([99, at])
        maker = _noise if at < 2 else _csv
        with (place / "v1" / name).open("wb") as file:
            for _ in range(64):
                file.write(maker(rng, 8 * MIB))
        if at < 3:
            os.link(place / "v1" / name, place / "v2" / name)
    rng = np.random.default_rng([99, 77])
    content = bytearray((place / "v1" / "big3.csv").read_bytes())
    for edit in range(5):
        begin = (50 + 90 * edit) * MIB
        content[begin : begin + MIB] = _csv(rng, MIB)
    content[256 * MIB : 256 * MIB] = _csv(rng, 4 * KIB)
    (place / "v2" / "big3.csv").write_bytes(content)


def make(name: str, folder: Path) -> Path:
    """Makes the data set `S`, `M` or `L` in a folder, unless it is there whole.

    In a process of its own: what this one had in memory at its peak would be counted as that of every command it starts.
    """
    place = folder / name
    if not (place / "whole").exists():
        subprocess.run([sys.executable, __file__, name, folder], check=True)
    return place


def _make(name: str, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    match name:
        case "S":
            _make_many(place, list(_small()))
        case "M":
            _make_many(place, list(_mixed()))
        case "L":
            _make_large(place)
        case _:
            raise SystemExit(f"there is no data set {name!r}: S, M, L")
    (place / "whole").touch()


def turn_to_v2(place: Path, work: Path) -> None:
    """Makes a copy of `v1` equal to `v2`, touching only what differs, as a user's edits would."""
    old, new = _paths(place / "v1"), _paths(place / "v2")
    for path in old - new:
        (work / path).unlink()
    for path in new:
        source = place / "v2" / path
        if path not in old or not os.path.samefile(source, place / "v1" / path):
            shutil.copyfile(source, work / path)


def _paths(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(top, name), folder) for top, _, names in os.walk(folder) for name in names}


if __name__ == "__main__":
    _make(sys.argv[1], Path(sys.argv[2], sys.argv[1]))
