"""The bytes of a zip archive, as far as chunks need them: headers with sizes, a central directory, zip64 by need.

Bytes depend on nothing but the members: the date is always 1980-01-01, the mode 0444, no comment, no extra field but
zip64's. See APPNOTE.TXT of PKWARE for the fields.
"""

from __future__ import annotations

import hashlib
import re
import struct
from functools import lru_cache
from typing import Final

STORED: Final = 0
DEFLATED: Final = 8

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<IIQI")
_EXTRA_LOCAL64 = struct.Struct("<HHQQ")
_EXTRA_CENTRAL64 = struct.Struct("<HHQQQ")

_VERSION: Final = 20
_VERSION64: Final = 45
_UNIX: Final = 3 << 8
_DATE: Final = 0x21  # 1980-01-01, the first day a zip knows
_MODE: Final = 0o100444 << 16
_FULL32: Final = 0xFFFFFFFF
_FULL16: Final = 0xFFFF

_SAFE_CHARACTERS = rb"A-Za-z0-9!$%&'()+,.=@\[\]^_{}~-"
_SAFE = re.compile(
    rb"(?!_(?:/|\Z))"
    rb"(?:(?!-)[%(c)s](?:[ %(c)s]{0,253}[%(c)s])?(?:/|\Z))+(?<!/)\Z" % {b"c": _SAFE_CHARACTERS}
)  # fmt: skip
_UNSAFE_PART = re.compile(
    rb"(?:\A|/)(?:[^/]*\.(?:/|\Z)|(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:[./]|\Z))", re.IGNORECASE
)
_MOST_NAME_BYTES: Final = 1000


def member_name(path: bytes) -> bytes:
    """The name a member has in its archive: the path where every unzip writes it alike, else `_/<SHA-256 of the path>`.

    A path stands for itself when it is at most 1,000 bytes; its parts are 1 to 255 of the ASCII letters, digits, space
    and ``!$%&'()+,-.=@[]^_{}~``, neither begin nor end with a space, don't begin with `-` nor end with `.`, and are no
    device name of Windows (`con`, `nul.txt`, ...); and it is not `_` nor lies in a folder `_` at the top, which is ours.

    >>> member_name(b"img/cat 1.jpg")
    b'img/cat 1.jpg'
    >>> member_name("é".encode())[:10]
    b'_/4a99557e'
    """
    folder, _, name = path.rpartition(b"/")
    if len(path) <= _MOST_NAME_BYTES and ((_is_safe_folder(folder) and _is_safe(name)) or _is_safe(path)):
        return path
    return b"_/" + hashlib.sha256(path).hexdigest().encode()


def _is_safe(path: bytes) -> bool:
    return bool(_SAFE.match(path)) and not _UNSAFE_PART.search(path)


@lru_cache(maxsize=64)
def _is_safe_folder(folder: bytes) -> bool:
    """As `_is_safe`; files come folder by folder, so that only their own names need a look."""
    return _is_safe(folder)


def local_header(name: bytes, method: int, crc: int, stored: int, size: int) -> bytes:
    """What stands before a member's data. Sizes in bytes."""
    if stored >= _FULL32 or size >= _FULL32:
        extra = _EXTRA_LOCAL64.pack(1, 16, size, stored)
        fixed = (0x04034B50, _VERSION64, 0, method, 0, _DATE, crc, _FULL32, _FULL32, len(name), len(extra))
        return _LOCAL.pack(*fixed) + name + extra
    return _LOCAL.pack(0x04034B50, _VERSION, 0, method, 0, _DATE, crc, stored, size, len(name), 0) + name


def central_header(name: bytes, method: int, crc: int, stored: int, size: int, offset: int) -> bytes:
    """A member's entry in the central directory; `offset` is that of its local header."""
    extra = b""
    version = _VERSION
    if stored >= _FULL32 or size >= _FULL32 or offset >= _FULL32:
        extra = _EXTRA_CENTRAL64.pack(1, 24, size, stored, offset)
        stored = size = offset = _FULL32
        version = _VERSION64
    return (
        _CENTRAL.pack(
            0x02014B50, _UNIX | version, version, 0, method, 0, _DATE, crc, stored, size,
            len(name), len(extra), 0, 0, 0, _MODE, offset,
        )
        + name
        + extra
    )  # fmt: skip


def end_of_archive(members: int, directory_size: int, directory_offset: int) -> bytes:
    """What closes an archive, after the central directory."""
    if members < _FULL16 and directory_size < _FULL32 and directory_offset < _FULL32:
        return _END.pack(0x06054B50, 0, 0, members, members, directory_size, directory_offset, 0)
    at = directory_offset + directory_size
    return (
        _END64.pack(
            0x06064B50, 44, _UNIX | _VERSION64, _VERSION64, 0, 0, members, members, directory_size, directory_offset
        )
        + _LOCATOR64.pack(0x07064B50, 0, at, 1)
        + _END.pack(0x06054B50, 0, 0, _FULL16, _FULL16, _FULL32, _FULL32, 0)
    )
