"""Links to a web server and to S3, against real servers in this process."""

from __future__ import annotations

import itertools
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dataset_tasks import Dataset, external
from dataset_tasks.errors import InvalidArgumentError, SourceError, SourceUnavailableError
from dataset_tasks.external import policy, web
from dataset_tasks.ops.requests import Verify
from dataset_tasks.session import open_session


@dataclass
class Page:
    """What the server answers for one path."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    status: int = 200
    head_status: int = 0
    tells_size: bool = True
    takes_ranges: bool = True
    ends_after: int | None = None
    hangs: bool = False
    drips: bool = False
    fails_first: int = 0


@dataclass
class Site:
    """A running web server: change `pages` (by path with query) and it answers otherwise."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    handler: type[BaseHTTPRequestHandler] = BaseHTTPRequestHandler

    def put(self, path: str, body: bytes = b"content", **more: Any) -> str:
        self.pages[path] = Page(body, **more)
        return self.url + path


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self) -> None:
            site.asked.append((self.command, self.path))
            page = site.pages.get(self.path, Page(status=404))
            if page.hangs:
                site.released.wait(60)
                self.close_connection = True
                return
            status = page.head_status if self.command == "HEAD" and page.head_status else page.status
            if page.fails_first:
                page.fails_first -= 1
                status = 503
            body = page.body
            if status == 200 and self.headers.get("Range") and page.takes_ranges:
                status, span = (206, f"0-0/{len(body)}") if body else (416, "*/0")
                self.send_response(status)
                self.send_header("Content-Range", f"bytes {span}")
                body = body[:1]
            else:
                self.send_response(status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            if page.tells_size:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET" and page.drips:
                self.wfile.write(body[:1])
                site.released.wait(60)
            elif self.command == "GET":
                self.wfile.write(body[: page.ends_after])
            self.close_connection = True

    monkeypatch.setattr(web, "PAUSES", (0.0, 0.0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}", handler=Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """A client of a moto server, with a bucket `lake` and one `kept` that keeps versions."""
    import boto3
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        client = boto3.client("s3", endpoint_url="http://{}:{}".format(*server.get_host_and_port()))
        client.create_bucket(Bucket="lake")
        client.create_bucket(Bucket="kept")
        client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        yield client
        server.stop()


@pytest.fixture
def draft() -> Dataset:
    return Dataset.create("links", "demo")


def final(dataset: Dataset) -> Dataset:
    dataset.finalize()
    return dataset


def copied(dataset: Dataset, path: str) -> bytes:
    return Path(dataset.get_local_copy() or "", path).read_bytes()


def verified(dataset: Dataset) -> tuple[str, ...]:
    with open_session() as session:
        bad: tuple[str, ...] = session.run(Verify(ref=dataset.id)).bad  # type: ignore[attr-defined]
        return bad


def refused(draft: Dataset, url: str | list[str], match: str, kind: type[Exception] = SourceError) -> Any:
    """The add fails like that, and leaves the draft as it was."""
    before = draft._version
    with pytest.raises(kind, match=match) as caught:
        draft.add_external_files(url)
    assert draft._version == before
    return caught.value


# --- web servers -------------------------------------------------------------------------------------------------------


def test_a_page_is_linked_copied_opened_and_verified(draft: Dataset, site: Site) -> None:
    url = site.put("/in/a%20b%25.csv?day=1&of=x%20y", b"a,b\n")
    assert draft.add_external_files(url, dataset_path="web") == 1
    entry = draft.file_entries_dict["web/a b%.csv"]
    assert (entry.link, entry.size, entry.pin) == (url, 4, '"1"')  # type: ignore[union-attr]
    assert draft.add_external_files(url.replace("%20", " "), dataset_path="web") == 0
    assert copied(final(draft), "web/a b%.csv") == b"a,b\n"
    assert draft.open("web/a b%.csv").read() == b"a,b\n"
    assert draft.verify_dataset_hash() == []
    assert verified(draft) == ()


@pytest.mark.parametrize(
    "page",
    [
        Page(b"content", {"Last-Modified": "Sun, 22 Nov 2026 08:00:00 GMT"}),
        Page(b"content", {"ETag": 'W/"weak"', "Last-Modified": "Sun, 22 Nov 2026 08:00:00 GMT"}),
        Page(b"content", head_status=405),
        Page(b"content", head_status=403, takes_ranges=False),
        Page(b"", head_status=501),
        Page(b""),
        Page(b"content", fails_first=2),
        Page(bytes(3 << 20)),
    ],
    ids=["last modified", "weak", "no HEAD", "no HEAD, no ranges", "empty, no HEAD", "empty", "busy", "large"],
)
def test_servers_of_many_kinds_can_be_linked_to(draft: Dataset, site: Site, page: Page) -> None:
    site.pages["/a"] = page
    draft.add_external_files(site.url + "/a")
    page.fails_first *= 2
    assert draft.file_entries_dict["a"].size == len(page.body)
    assert copied(final(draft), "a") == page.body
    assert verified(draft) == ()


@pytest.mark.parametrize(
    ("page", "match"),
    [
        (Page(status=404), "there is nothing at"),
        (Page(status=410), "there is nothing at"),
        (Page(status=401), "answers 401"),
        (Page(status=403), "answers 403"),
        (Page(b"x", tells_size=False, takes_ranges=False), "can't be pinned"),
        (Page(b"x", {}), "can't be pinned"),
        (Page(status=302, headers={"Location": "file:///etc/passwd"}), "another scheme"),
        (Page(status=301, headers={"Location": "https://127.0.0.1:1/a"}), "another scheme"),
        (Page(status=307, headers={"Location": "data:,a"}), "another scheme"),
        (Page(status=302, headers={"Location": "/page"}), "redirects in a circle"),
    ],
    ids=lambda value: f"{value.status} {value.headers.get('Location', '')}" if isinstance(value, Page) else "",
)
def test_a_page_that_is_not_there_or_can_not_be_pinned_is_refused(
    draft: Dataset, site: Site, page: Page, match: str
) -> None:
    site.pages["/page"] = page
    good = site.put("/good")
    error = refused(draft, [good, site.url + "/page"], match)
    assert error.paths == (site.url + "/page",)
    assert (error.retryable, bool(error.hint)) == (False, True)


def test_redirects_within_the_scheme_are_followed(draft: Dataset, site: Site) -> None:
    site.put("/here", b"moved")
    site.pages["/a.csv"] = Page(status=302, headers={"Location": "/here"})
    draft.add_external_files(site.url + "/a.csv")
    assert ("HEAD", "/here") in site.asked
    assert copied(final(draft), "a.csv") == b"moved"


@pytest.mark.parametrize("page", [Page(status=503), Page(hangs=True)], ids=["busy", "slow"])
def test_a_server_that_does_not_answer_is_worth_another_try(
    draft: Dataset, site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.2)
    site.pages["/page"] = page
    error = refused(draft, site.url + "/page", "answers 503" if page.status == 503 else "no answer in 0.2 seconds")
    assert isinstance(error, SourceUnavailableError)
    assert error.retryable
    assert len(site.asked) == (1 if page.hangs else 3)


def test_a_server_that_is_not_there_is_worth_another_try(draft: Dataset) -> None:
    refused(draft, "http://127.0.0.1:1/a", "can't be reached", SourceUnavailableError)


def test_a_folder_of_a_web_server_is_no_link(draft: Dataset, site: Site) -> None:
    refused(draft, site.url + "/in/", "names no file", InvalidArgumentError)
    assert site.asked == []


@pytest.mark.parametrize(
    ("page", "match"),
    [
        (Page(b"another text", {"ETag": '"2"'}), "changed"),
        (Page(b"CONTENT", {"ETag": '"2"'}), "changed"),
        (Page(b"content", {}), "changed"),
        (Page(b"content and more"), "more than 7 bytes, 7 when"),
        (Page(b"cont"), "4 bytes, 7 when"),
        (Page(status=404), "there is nothing at"),
        (Page(status=302, headers={"Location": "file:///etc/passwd"}), "another scheme"),
    ],
    ids=["changed", "same size", "no pin", "longer", "shorter", "gone", "to a file"],
)
def test_a_page_that_changed_or_vanished_gives_no_copy_and_is_listed(
    draft: Dataset, site: Site, tmp_path: Path, page: Page, match: str
) -> None:
    draft.add_external_files([site.put("/in/a.csv"), site.put("/in/b.csv")])
    final(draft)
    site.pages["/in/a.csv"] = page
    with pytest.raises(
        SourceError, match=rf"^a\.csv: .*http://.*/in/a\.csv.*{match}|^a\.csv: there is nothing"
    ) as caught:
        draft.get_local_copy()
    assert match in caught.value.message
    assert caught.value.paths == ("a.csv",)
    with pytest.raises(SourceError):
        draft.get_mutable_local_copy(tmp_path / "own")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError, match=match), draft.open("a.csv") as file:
        file.read()
    assert verified(draft) == ("a.csv",)
    assert draft.verify_dataset_hash() == ["a.csv"]


def test_an_answer_that_breaks_off_is_no_copy_and_worth_another_try(draft: Dataset, site: Site) -> None:
    draft.add_external_files(site.put("/a.csv", b"x" * 100_000))
    final(draft)
    site.pages["/a.csv"].ends_after = 50_000
    with pytest.raises(SourceUnavailableError, match="broke off"):
        draft.get_local_copy()
    site.pages["/a.csv"].ends_after = None
    assert copied(draft, "a.csv") == b"x" * 100_000


def test_a_link_that_nobody_can_check_now_is_not_listed(
    draft: Dataset, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.add_external_files(site.put("/a.csv"))
    assert copied(final(draft), "a.csv") == b"content"
    monkeypatch.setattr(web, "SECONDS", 0.2)
    site.pages["/a.csv"] = Page(hangs=True)
    assert verified(draft) == ()
    assert draft.verify_dataset_hash() == []
    site.pages["/a.csv"] = Page(status=503)
    assert verified(draft) == ()
    with pytest.raises(SourceUnavailableError):
        draft.get_local_copy(files="a*")


def test_copies_give_up_on_a_host_of_broken_links(draft: Dataset, site: Site) -> None:
    draft.add_external_files([site.put(f"/{number}") for number in range(100)])
    final(draft)
    site.pages.clear()
    site.asked.clear()
    with pytest.raises(SourceError, match="external links can't be brought"):
        draft.get_local_copy()
    assert 20 <= len(site.asked) < 40


def test_a_spec_links_previews_and_finds_itself_unchanged(site: Site, tmp_path: Path) -> None:
    from dataset_tasks.spec.compiler import compile_spec
    from dataset_tasks.spec.explain import explain
    from dataset_tasks.spec.plan import Scope
    from dataset_tasks.spec.preview import preview
    from dataset_tasks.spec.run import run_plan

    site.put("/hourly.csv", b"1,2\n")
    (tmp_path / "local").mkdir()
    (tmp_path / "local/a.txt").write_text("a")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"""
version: 1
name: weather
project: nyc
params: {{host: {{default: "{site.url}"}}}}
datasets:
  linked:
    external:
      - {{url: "${{params.host}}/hourly.csv", dataset_path: web}}
      - {{url: "{(tmp_path / "local").as_uri()}", wildcard: "*.txt"}}
    granularity: operation
""")
    plan = compile_spec(spec)
    assert [step.id for step in plan.steps][1:3] == ["linked.external.0", "linked.external.1"]
    assert "link to ${params.host}/hourly.csv into web" in explain(plan)
    scope = Scope(params={"host": site.url})
    with open_session() as session:
        (before,) = preview(plan, session, scope)
        assert (before.status, before.added, before.files, before.bytes) == ("new", 2, 2, 5)
        run_plan(plan, session=session)
        (after,) = preview(plan, session, scope)
        assert after.status == "unchanged"
        run_plan(plan, session=session)
        assert [version.version for version in session.catalog.versions(name="linked")] == ["1.0.0"]
        site.pages["/hourly.csv"] = Page(b"1,3\n", {"ETag": '"2"'})
        (changed,) = preview(plan, session, scope)
        assert (changed.status, changed.modified) == ("changes", 1)


# --- over TLS, and who is never talked to ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate of an authority of our own, and that of a server at `localhost` with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)

    def certificate(
        name: str, key: Any, signer: str, signing: Any, extension: x509.ExtensionType, *, is_authority: bool
    ) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, signer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(extension, critical=False)
            .sign(signing, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM)

    ours, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    trusted, held = folder / "authority.pem", folder / "server.pem"
    own_id = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())
    trusted.write_bytes(certificate("tests", ours, "tests", ours, own_id, is_authority=True))
    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    held.write_bytes(key + certificate("localhost", server, "tests", ours, names, is_authority=False))
    return trusted, held


@pytest.fixture
def secure(site: Site, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The pages of `site` over TLS, on another port; its authority is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), site.handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are what is tested
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield replace(site, url=f"https://localhost:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_is_linked_and_copied_over_tls(draft: Dataset, secure: Site) -> None:
    draft.add_external_files(secure.put("/a.csv", bytes(3 << 20)))
    assert copied(final(draft), "a.csv") == bytes(3 << 20)
    assert verified(draft) == ()


def test_a_certificate_of_nobody_known_is_refused_for_good(
    draft: Dataset, secure: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    error = refused(draft, secure.put("/a.csv"), "certificate of its server can't be trusted")
    assert (error.retryable, "SSL_CERT_FILE" in error.hint, secure.asked) == (False, True, [])


def test_a_certificate_for_another_name_is_refused(draft: Dataset, secure: Site) -> None:
    refused(draft, secure.put("/a.csv").replace("localhost", "127.0.0.1"), "can't be trusted")
    assert secure.asked == []


def test_a_redirect_never_leaves_tls(draft: Dataset, site: Site, secure: Site) -> None:
    plain = site.put("/plain")
    secure.pages["/a"] = Page(status=302, headers={"Location": plain})
    refused(draft, secure.url + "/a", "another scheme")
    assert ("HEAD", "/plain") not in site.asked
    secure.pages["/a"] = Page(status=302, headers={"Location": f"{secure.url}/plain"})
    assert draft.add_external_files(secure.url + "/a") == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_metadata_service_is_refused(draft: Dataset, site: Site, code: int) -> None:
    site.pages["/a"] = Page(status=code, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
    refused(draft, site.url + "/a", "clouds keep the credentials", InvalidArgumentError)


def test_a_redirect_out_of_the_list_of_allowed_places_is_refused(
    draft: Dataset, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("/out/b")
    site.pages["/in/a"] = Page(status=302, headers={"Location": "/out/b"})
    monkeypatch.setenv(policy.ALLOWED, f"{site.url}/in/")
    refused(draft, site.url + "/in/a", "may be read here", InvalidArgumentError)
    assert ("HEAD", "/out/b") not in site.asked


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_leads_to_a_metadata_service_is_told_nothing(
    draft: Dataset, site: Site, secure: Site, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(policy, "is_metadata", lambda host: host == "127.0.0.1")
    url = secure.put("/a") if scheme == "https" else site.put("/a").replace("127.0.0.1", "localhost")
    refused(draft, url, "clouds keep the credentials", InvalidArgumentError)
    assert site.asked == []


def test_a_file_that_comes_in_drops_is_given_up(draft: Dataset, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    draft.add_external_files(site.put("/a.csv", b"x" * 100_000))
    final(draft)
    site.pages["/a.csv"].drips = True
    seconds = itertools.count(step=100)
    monkeypatch.setattr(external, "clock", lambda: float(next(seconds)))
    with pytest.raises(SourceUnavailableError, match="less than 16384 a second") as caught:
        draft.get_local_copy()
    assert caught.value.retryable


# --- S3 ----------------------------------------------------------------------------------------------------------------


def s3_url(client: Any, path: str, **options: str) -> str:
    extra = "".join(f"&{name}={value}" for name, value in options.items())
    return f"s3://{path}?endpoint={quote(client.meta.endpoint_url, safe='')}&style=path{extra}"


@pytest.fixture
def lake(s3: Any, request: pytest.FixtureRequest) -> str:
    """A prefix of its own with four objects and the marker of a folder."""
    prefix = f"t{abs(hash(request.node.name))}"
    for key in ("a b%.csv", "sub/b.csv", "sub/deep/c.txt", "é#?.csv", "sub/"):
        s3.put_object(Bucket="lake", Key=f"{prefix}/{key}", Body=f"content of {key}".encode())
    s3.put_object(Bucket="lake", Key=f"{prefix}-other/x", Body=b"x")
    return prefix


def test_a_prefix_becomes_links_to_its_objects(draft: Dataset, s3: Any, lake: str) -> None:
    assert draft.add_external_files(s3_url(s3, f"lake/{lake}"), dataset_path="in") == 4
    assert draft.list_files() == ["in/a b%.csv", "in/sub/b.csv", "in/sub/deep/c.txt", "in/é#?.csv"]
    assert draft.add_external_files(s3_url(s3, f"lake/{lake}/"), dataset_path="in") == 0
    final(draft)
    for path in draft.list_files():
        assert copied(draft, path).decode() == f"content of {path.removeprefix('in/')}"
    assert verified(draft) == ()


def test_an_object_of_strange_name_is_linked_by_its_escaped_url(draft: Dataset, s3: Any, lake: str) -> None:
    draft.add_external_files([s3_url(s3, f"lake/{lake}/a b%25.csv"), s3_url(s3, f"lake/{lake}/%C3%A9%23%3F.csv")])
    assert draft.list_files() == ["a b%.csv", "é#?.csv"]
    assert copied(final(draft), "é#?.csv").decode() == "content of é#?.csv"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"wildcard": "*.csv"}, ["a b%.csv", "sub/b.csv", "é#?.csv"]),
        ({"recursive": False}, ["a b%.csv", "é#?.csv"]),
        ({"recursive": False, "wildcard": "sub/*"}, ["sub/b.csv"]),
    ],
    ids=str,
)
def test_wildcards_choose_objects(
    draft: Dataset, s3: Any, lake: str, arguments: dict[str, Any], names: list[str]
) -> None:
    draft.add_external_files(s3_url(s3, f"lake/{lake}"), **arguments)
    assert draft.list_files() == names


def test_an_object_that_was_written_over_or_deleted_gives_no_copy_and_is_listed(
    draft: Dataset, s3: Any, lake: str
) -> None:
    draft.add_external_files(s3_url(s3, f"lake/{lake}"))
    final(draft)
    s3.put_object(Bucket="lake", Key=f"{lake}/a b%.csv", Body=b"CONTENT OF a b%.csv")
    s3.delete_object(Bucket="lake", Key=f"{lake}/sub/b.csv")
    with pytest.raises(SourceError, match="2 external links can't be brought") as caught:
        draft.get_local_copy()
    assert caught.value.paths == ("a b%.csv", "sub/b.csv")
    assert f"s3://lake/{lake}/sub/b.csv" in caught.value.message
    assert verified(draft) == ("a b%.csv", "sub/b.csv")


def test_a_version_of_an_object_stays_readable(draft: Dataset, s3: Any) -> None:
    first = s3.put_object(Bucket="kept", Key="a.csv", Body=b"first")["VersionId"]
    s3.put_object(Bucket="kept", Key="a.csv", Body=b"second")
    draft.add_external_files(s3_url(s3, "kept/a.csv", versionId=first))
    s3.delete_object(Bucket="kept", Key="a.csv")
    assert copied(final(draft), "a.csv") == b"first"
    assert verified(draft) == ()


def test_keys_that_are_no_dataset_paths_are_refused_by_name(draft: Dataset, s3: Any, lake: str) -> None:
    s3.put_object(Bucket="lake", Key=f"{lake}/a//b", Body=b"x")
    refused(draft, s3_url(s3, f"lake/{lake}"), "an empty part")


@pytest.mark.parametrize(
    ("path", "match", "kind"),
    [
        ("lake/nothing", "there is nothing at", SourceError),
        ("lake/nothing/", "there is nothing at", SourceError),
        ("no-such-bucket/", "NoSuchBucket", SourceError),
        ("lake/a?color=red", "unknown options: color", InvalidArgumentError),
    ],
)
def test_what_is_not_in_s3_is_refused(draft: Dataset, s3: Any, path: str, match: str, kind: type[Exception]) -> None:
    url = s3_url(s3, path) if "?" not in path else f"s3://{path}"
    refused(draft, url, match, kind)


def test_no_credential_of_the_environment_gets_into_a_version(
    draft: Dataset, s3: Any, lake: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-sesame")
    draft.add_external_files(s3_url(s3, f"lake/{lake}"))
    final(draft)
    for folder, _, names in os.walk(home):
        for name in names:
            assert b"canary-sesame" not in Path(folder, name).read_bytes()
