"""Which URLs can be links, and the one form in which they are kept. Reads nothing; standard library only."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit, urlunsplit

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import show

SCHEMES: Final = ("file", "s3", "http", "https")
_LATER: Final = frozenset({"gs", "gcs", "azure", "az", "abfs", "abfss", "wasb", "wasbs"})
#: Parts of a query that let in whoever has them: they would stand in the manifest for good.
_SECRETS: Final = frozenset({
    "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature", "x-goog-credential",
    "awsaccesskeyid", "signature", "sig", "access_token", "api_key", "apikey", "token", "password", "secret",
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
})  # fmt: skip
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"


def canonical(url: str) -> str:
    """The form in which a URL is kept: characters that a URL can't hold are escaped, escapes are left alone.

    Raises:
        InvalidArgumentError: It is no URL, its scheme is not read, or it holds credentials (then it is not shown).

    >>> canonical("http://example.org/a b.csv?day=1")
    'http://example.org/a%20b.csv?day=1'
    """
    scheme = scheme_of(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{show(url)} is no URL: {error}", hint="Check the part behind `//`.") from error
    _refuse_secrets(scheme, parts)
    if parts.fragment or url.endswith("#"):
        raise InvalidArgumentError(
            f"{show(url)} has a fragment, which no server is told", hint="Write `#` in a name as %23."
        )
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or parts.query or not parts.path.startswith("/"):
            raise InvalidArgumentError(
                f"{show(url)} is not the URL of a file on this machine",
                hint="Write `file:///absolute/path`, with `?` as %3F, `#` as %23 and `%` as %25.",
            )
        return "file://" + quote(unquote_to_bytes(parts.path), safe="/!$&'()*+,;=:@~")
    if not parts.hostname:
        raise InvalidArgumentError(f"{show(url)} names no {'bucket' if scheme == 's3' else 'host'}")
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    query = quote(_STRAY.sub("%25", parts.query), safe=_PATH_SAFE + "?")
    return urlunsplit((scheme, host, _escaped(parts.path), query, ""))


def scheme_of(url: str) -> str:
    """The scheme of a URL, if it is one that is read.

    Raises:
        InvalidArgumentError: It is not.
    """
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme in SCHEMES:
        return scheme
    known = ", ".join(f"{each}://" for each in SCHEMES)
    if not scheme:
        raise InvalidArgumentError(
            f"{show(url)} is no URL", hint=f"Give one of {known}; a local file as `file:///absolute/path`."
        )
    later = "not supported yet" if scheme in _LATER else "not read"
    raise InvalidArgumentError(f"links to {scheme}:// URLs are {later}", hint=f"Give one of {known}.")


def name_of(path: str) -> bytes:
    """The last part of the path of a URL, unescaped; empty where it ends in `/`."""
    return unquote_to_bytes(path.rpartition("/")[2])


def _escaped(path: str) -> str:
    return quote(_STRAY.sub("%25", path), safe=_PATH_SAFE)


def _refuse_secrets(scheme: str, parts: SplitResult) -> None:
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    held = [name for name in names if name.lower() in _SECRETS]
    if "@" not in parts.netloc and not held:
        return
    where = parts.netloc.rpartition("@")[2]
    what = f"in its query ({', '.join(map(show, held))})" if held else "before its host"
    raise InvalidArgumentError(
        f"the {scheme} URL of a link at {show(where)} holds credentials {what}",
        hint="A link is kept with the version for everybody to read. Take them out: use a URL that needs none, the SDK's "
        "own chain for s3://, or `add_files` to store the bytes.",
    )
