"""Which places may be read at all: never the metadata services of clouds, and only an allow-list where there is one.

A spec comes from a repository, and whoever writes one has the worker read files and URLs on their behalf. The metadata
service of a cloud hands out the worker's own credentials, so nothing here ever talks to one. `DATASET_TASKS_ALLOWED_SOURCES`
narrows the rest: beginnings of URLs and folders, separated by white space.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import show

ALLOWED: Final = "DATASET_TASKS_ALLOWED_SOURCES"
#: Of the error for a place that is not read here.
REFUSED: Final = "source_not_allowed"
_METADATA_NAMES: Final = frozenset({"metadata.google.internal", "metadata", "instance-data", "metadata.azure.internal"})
_METADATA: Final = tuple(
    ipaddress.ip_network(each)
    for each in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32")
)


def is_metadata(host: str) -> bool:
    """Whether a host name or address is that of a metadata service, or link-local as they are.

    >>> is_metadata("169.254.169.254"), is_metadata("::ffff:a9fe:a9fe"), is_metadata("example.org")
    (True, True, False)
    """
    bare = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if bare in _METADATA_NAMES:
        return True
    address = _address(bare)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in _METADATA)


def check_url(url: str) -> None:
    """Refuses a canonical URL that may not be read.

    Raises:
        InvalidArgumentError: Of kind `source_not_allowed`.
    """
    parts = urlsplit(url)
    endpoint = dict(parse_qsl(parts.query)).get("endpoint", "") if parts.scheme not in ("http", "https") else ""
    for host in (parts.hostname, urlsplit(endpoint).hostname):
        if host and is_metadata(host):
            raise metadata(url, host)
    if parts.scheme == "file":
        check_path(unquote_to_bytes(parts.path), url)
        return
    allowed = _allowed()
    if allowed is not None and not any(_lies_below(url, each) for each in allowed if "://" in each):
        raise _not_allowed(url)


def check_path(path: bytes, written: str = "") -> None:
    """Refuses a path of this machine that may not be read, links resolved; `written` is what the user wrote.

    Raises:
        InvalidArgumentError: Of kind `source_not_allowed`.
    """
    if not may_read(path):
        raise _not_allowed(written or show(path))


def may_read(path: bytes) -> bool:
    """Whether a path of this machine may be read, links resolved."""
    allowed = _allowed()
    if allowed is None:
        return True
    real = os.path.realpath(path)
    for each in allowed:
        if "://" not in each or each.startswith("file:///"):
            folder = os.path.realpath(os.fsencode(each.removeprefix("file://")))
            if real == folder or real.startswith(folder.rstrip(b"/") + b"/"):
                return True
    return False


def metadata(url: str, host: str) -> InvalidArgumentError:
    """The error for a URL that leads to a metadata service."""
    return InvalidArgumentError(
        f"{show(url)} leads to {show(host)}, where clouds keep the credentials of their machines",
        hint="Nothing is ever read there. Give the URL of the data itself.",
        kind=REFUSED,
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:  # what the C library also takes for an address: `2852039166`, `0xa9fea9fe`, `169.254.43518`
        parts = [int(part, 0 if not part.startswith("0") or part[1:2] in ("x", "X") or part == "0" else 8)
                 for part in host.split(".")]  # fmt: skip
    except ValueError:
        return None
    *heads, last = parts
    if len(parts) > 4 or any(not 0 <= head < 256 for head in heads) or not 0 <= last < 256 ** (4 - len(heads)):
        return None
    return ipaddress.IPv4Address(sum(head << 8 * (3 - place) for place, head in enumerate(heads)) + last)


def _allowed() -> list[str] | None:
    text = os.environ.get(ALLOWED)
    return None if text is None else text.split()


def _lies_below(url: str, top: str) -> bool:
    """Whether a URL is one of the list or lies below it; scheme and host, port and all, must be the same."""
    one, other = urlsplit(url), urlsplit(top)
    if (one.scheme, one.netloc.lower()) != (other.scheme, other.netloc.lower()):
        return False
    path, folder = unquote_to_bytes(one.path), unquote_to_bytes(other.path)
    if b".." in path.split(b"/") and one.scheme in ("http", "https"):
        return False
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _not_allowed(shown: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{show(shown)} is none of the places that may be read here",
        hint=f"Whoever runs this machine names them in {ALLOWED}: beginnings of URLs and folders, with spaces between.",
        kind=REFUSED,
    )
