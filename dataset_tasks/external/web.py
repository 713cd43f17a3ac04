"""Links to web servers. No listing, no credentials, no redirect to another scheme, and no request without a time-out."""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from typing import IO, Final, TypeVar
from urllib import error as failures
from urllib import request as urls
from urllib.parse import urlsplit

from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external import policy
from dataset_tasks.external.base import PIECE, Found, Listed, Pinned, changed, gone, unavailable
from dataset_tasks.external.urls import name_of
from dataset_tasks.paths import show

T = TypeVar("T")

#: How long (seconds) a server may take to accept a connection, and then for each next part of its answer.
SECONDS = 30.0
#: How long (seconds) to wait before a request that failed is made again.
PAUSES: tuple[float, ...] = (0.5, 2.0)
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE: Final = frozenset({404, 410})
#: How servers say that they take no HEAD.
_NO_HEAD: Final = frozenset({400, 403, 405, 501})
_RANGE: Final = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)\Z")


class WebReader:
    """Reads `http://` and `https://` URLs. Pinned by size and ETag, else Last-Modified."""

    def list(self, url: str, *, deep: bool) -> Listed:
        """The one file; a web server lists nothing. See `Reader.list`."""
        name = name_of(urlsplit(url).path)
        if not name:
            raise InvalidArgumentError(
                f"{show(url)} names no file", hint="Web servers list no folders: give the URL of each file."
            )
        size, pin = self.stat(url)
        return Listed([Found(name, url, size, pin)], is_folder=False)

    def stat(self, url: str) -> Pinned:
        """Size and ETag by HEAD, or by a GET of one byte where the server takes no HEAD; see `Reader.stat`."""
        try:
            found = _pinned(_headers(url, "HEAD"))
        except failures.HTTPError as error:
            if error.code not in _NO_HEAD:
                raise _refused(url, error) from error
            error.close()
            found = None
        if found is None:
            try:
                found = _pinned(_headers(url, "GET", {"Range": "bytes=0-0"}))
            except failures.HTTPError as error:
                found = _pinned(error.headers) if error.code == 416 else None  # an empty file has no first byte
                if found is None:
                    raise _refused(url, error) from error
                error.close()
        if found is None:
            raise SourceError(
                f"{show(url)} can't be pinned: its server tells no size, or neither ETag nor Last-Modified",
                paths=(url,),
                hint="Download it and use `add_files`, which stores the bytes.",
            )
        return found

    def open(self, url: str, pin: str, start: int = 0) -> Iterator[bytes]:
        """The bytes, if the server says that they are those of the pin; see `Reader.open`."""
        if start:
            raise unavailable(url, "the answer broke off")
        try:
            answer = _asked(url, lambda: _open(url, "GET"))
        except failures.HTTPError as error:
            raise _refused(url, error) from error
        with answer:
            if (found := _pin(answer.headers)) != pin:
                raise changed(url, found, pin)
            try:
                while piece := answer.read1(PIECE):  # what has come so far: `read` would wait for all of it
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise unavailable(url, f"the answer broke off ({_words(error)})") from error
            if answer.length:  # `read1` says nothing of an answer that ends too early
                raise unavailable(url, f"the answer broke off {answer.length} bytes before its end")


class _Redirects(urls.HTTPRedirectHandler):
    """Follows redirects within one scheme, with the method that was asked for."""

    def redirect_request(
        self, req: urls.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urls.Request | None:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            raise failures.HTTPError(req.full_url, code, "another scheme", headers, fp)
        try:
            policy.check_url(newurl)
        except InvalidArgumentError:
            fp.close()  # it holds the connection
            raise
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None:
            made.method = req.get_method()
        return made


def _check_peer(connection: http.client.HTTPConnection) -> None:
    """Refuses what a name turned out to lead to, before anything is said to it."""
    peer = str(connection.sock.getpeername()[0])
    if policy.is_metadata(peer):
        connection.close()
        raise policy.metadata(f"http://{connection.host}/", peer)


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self)


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self)


class _Http(urls.HTTPHandler):
    def http_open(self, req: urls.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urls.HTTPSHandler):
    def https_open(self, req: urls.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req, context=ssl.create_default_context())


def _opener() -> urls.OpenerDirector:
    """An opener for http and https alone: the usual one also reads `file:`, `ftp:` and `data:`."""
    opener = urls.OpenerDirector()
    for handler in (
        urls.ProxyHandler(),
        _Http(),
        _Https(),
        urls.HTTPDefaultErrorHandler(),
        _Redirects(),
        urls.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "dataset-tasks")]
    return opener


def _open(url: str, method: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    request = urls.Request(url, method=method, headers=headers or {})  # noqa: S310  # `canonical` let only http(s) through
    answer: http.client.HTTPResponse = _opener().open(request, timeout=SECONDS)
    return answer


def _headers(url: str, method: str, headers: dict[str, str] | None = None) -> Message:
    with _asked(url, lambda: _open(url, method, headers)) as answer:
        return answer.headers


def _asked(url: str, ask: Callable[[], T]) -> T:
    """An answer, asked for again when the server is busy or the connection fails; not when it takes too long."""
    for pause in (*PAUSES, None):
        try:
            return ask()
        except failures.HTTPError as error:
            if error.code not in _AGAIN or pause is None:
                raise
            error.close()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise SourceError(
                    f"{show(url)} is refused: the certificate of its server can't be trusted: {_words(error)}",
                    paths=(url,),
                    hint="Check the name in the URL. A certificate authority of your own goes into SSL_CERT_FILE.",
                ) from error
            if pause is None or _is_slow(error):
                raise unavailable(url, _words(error)) from error
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _is_slow(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)


def _words(error: Exception) -> str:
    if _is_slow(error):
        return f"no answer in {SECONDS:g} seconds"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _refused(url: str, error: failures.HTTPError) -> SourceError:
    code = error.code
    error.close()  # it holds the connection
    if code in _GONE:
        return gone(url)
    if code in _AGAIN:
        return unavailable(url, f"its server answers {code}")
    if 300 <= code < 400:
        return SourceError(
            f"{show(url)} redirects in a circle, or to another scheme, which is not followed",
            paths=(url,),
            hint="Give the URL that it leads to.",
        )
    hint = "It needs credentials; download it and use `add_files`." if code in (401, 403, 407) else "Check the URL."
    return SourceError(f"{show(url)} is refused: its server answers {code}", paths=(url,), hint=hint)


def _pin(headers: Message) -> str:
    return str(headers.get("ETag") or headers.get("Last-Modified") or "").strip()


def _pinned(headers: Message) -> Pinned | None:
    """What the headers of an answer say; None where they don't say it all."""
    pin = _pin(headers)
    span = _RANGE.match(str(headers.get("Content-Range") or ""))
    size = span[1] if span else headers.get("Content-Length")
    with suppress(TypeError, ValueError):
        if pin and size is not None:
            return Pinned(int(size), pin)
    return None
