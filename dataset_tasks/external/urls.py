"""Which URLs can be links or be imported, and the one form in which they are kept. Standard library only, reads nothing."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit, urlunsplit

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import show

SCHEMES: Final = ("file", "s3", "gs", "azure", "http", "https")
#: Those of object stores: they have listings, and options behind a `?`.
BUCKETS: Final = ("s3", "gs", "azure")
#: What may stand behind the `?` there; each store says which of them it takes.
_OPTIONS: Final = frozenset(
    {"account", "anonymous", "connection", "endpoint", "payer", "profile", "region", "style", "versionId"}
)
#: What others call them.
_ALSO: Final = {
    "gcs": "gs", "az": "azure", "abfs": "azure", "abfss": "azure", "wasb": "azure", "wasbs": "azure", "s3a": "s3",
    "s3n": "s3",
}  # fmt: skip
#: Parts of a query that let in whoever has them: they would stand in the manifest for good.
_SECRETS: Final = frozenset({
    "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature", "x-goog-credential",
    "awsaccesskeyid", "signature", "sig", "access_token", "api_key", "apikey", "token", "password", "secret",
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
})  # fmt: skip
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: A user, and maybe a password, before the host of a URL.
_USER: Final = re.compile(r"://[^/?#]*@")
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
    except ValueError:  # its text would show what may be a password
        raise InvalidArgumentError(f"{masked(url)} is no URL", hint="Check the part behind `//`.") from None
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
        raise InvalidArgumentError(f"{show(url)} names no {'bucket' if scheme in BUCKETS else 'host'}")
    if scheme in BUCKETS:
        _refuse_unknown(scheme, parts)
    try:
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    except UnicodeError as error:
        raise InvalidArgumentError(f"{show(url)} names no host that there can be", hint="Check its letters.") from error
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
            f"{masked(url)} is no URL", hint=f"Give one of {known}; a local file as `file:///absolute/path`."
        )
    same = _ALSO.get(scheme)
    hint = f"Write {same}://{'container' if same == 'azure' else 'bucket'}/name." if same else f"Give one of {known}."
    raise InvalidArgumentError(f"{scheme}:// URLs are not read", hint=hint)


def of_a_bucket(url: str) -> str:
    """As `canonical`, for what can be imported.

    Raises:
        InvalidArgumentError: As `canonical`, or it is no URL of an object store.
    """
    where = canonical(url)
    scheme = where.partition("://")[0]
    if scheme not in BUCKETS:
        hint = "Give its path." if scheme == "file" else "Link to it with `external`, or download it and add that."
        raise InvalidArgumentError(f"{show(where)} can't be imported: {scheme}:// is no object store", hint=hint)
    return where


def with_connection(url: str, connection: str | None) -> str:
    """A canonical URL that names the connection through which it is read; one that names it already stays as it is.

    Raises:
        InvalidArgumentError: It names another one, or is none of an object store.
    """
    if not connection:
        return url
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query)).get("connection", connection)
    if parts.scheme not in BUCKETS:
        raise InvalidArgumentError(
            f"{show(url)} is read without a connection", hint=f"Connections are for {', '.join(BUCKETS)}."
        )
    if named != connection:
        raise InvalidArgumentError(
            f"{show(url)} names the connection {show(named)}, the call {show(connection)}", hint="Name one of them."
        )
    if "connection=" in parts.query:
        return url
    more = "connection=" + quote(connection, safe="")
    return urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))


def masked(url: str) -> str:
    """A URL that was not checked yet, as it can be shown: without what stands before the last `@`, and without its query.

    >>> masked("s3://key:sesame@lake/a?token=sesame")
    's3://…@lake/a?…'
    """
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    who, at, where = rest.rpartition("@")  # first of all: a password may hold any of `?`, `#` and `/`
    head, mark, _query = where.partition("?")
    return show(f"{scheme}{slashes}{'…' if who else ''}{at}{head}") + ("?…" if mark else "")


def name_of(path: str) -> bytes:
    """The last part of the path of a URL, unescaped; empty where it ends in `/`."""
    return unquote_to_bytes(path.rpartition("/")[2])


def _escaped(path: str) -> str:
    return quote(_STRAY.sub("%25", path), safe=_PATH_SAFE)


def _refuse_unknown(scheme: str, parts: SplitResult) -> None:
    """Refuses options that there are not, without their values: they may be meant to be secret."""
    unknown = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - _OPTIONS)
    if unknown:
        raise InvalidArgumentError(
            f"the {scheme} URL at {show(parts.netloc)} has unknown options: {', '.join(map(show, unknown))}",
            hint=f"Behind the `?` there may be any of {', '.join(sorted(_OPTIONS))}.",
        )


def _refuse_secrets(scheme: str, parts: SplitResult) -> None:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    held = [name for name, value in pairs if name.lower() in _SECRETS or _USER.search(value)]
    if "@" not in parts.netloc and not held:
        return
    where = parts.netloc.rpartition("@")[2]
    what = f"in its query ({', '.join(map(show, held))})" if held else "before its host"
    raise InvalidArgumentError(
        f"the {scheme} URL at {show(where)} holds credentials {what}",
        hint="It is kept with the version for everybody to read. Take them out: object stores take credentials from a "
        "`connection` or their SDK's own chain; what else needs some is best downloaded, for `add_files` to store.",
    )
