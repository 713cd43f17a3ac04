"""Which URLs can be links, and the form they are kept in."""

from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.external.urls import canonical, name_of

FORMS = {
    "HTTP://example.org/a.csv": "http://example.org/a.csv",
    "http://example.org:8080/a b/100%.csv": "http://example.org:8080/a%20b/100%25.csv",
    "http://example.org/a%20b%2Fc": "http://example.org/a%20b%2Fc",
    "https://example.org/get?day=1&of=a b": "https://example.org/get?day=1&of=a%20b",
    "https://bücher.example/é.csv": "https://xn--bcher-kva.example/%C3%A9.csv",
    "file:///data/a b": "file:///data/a%20b",
    "file:///data/a%20b%25": "file:///data/a%20b%25",
    "file://localhost/data": "file:///data",
    "s3://lake/in/a b.csv": "s3://lake/in/a%20b.csv",
    "s3://lake?endpoint=http://127.0.0.1:9000&style=path": "s3://lake?endpoint=http://127.0.0.1:9000&style=path",
}

REFUSED = {
    "/data/a.csv": "is no URL",
    "a.csv": "is no URL",
    "": "is no URL",
    "ftp://example.org/a": "ftp:// URLs are not read",
    "data:text/plain,a": "is no URL",
    "gcs://lake/a": "gcs:// URLs are not read\nhint: Write gs://bucket/name",
    "abfss://lake/a": "Write azure://container/name",
    "gs:///a.csv": "names no bucket",
    "http:///a.csv": "names no host",
    "s3:///a.csv": "names no bucket",
    "http://example.org:port/a": "is no URL",
    "http://example.org/a#b": "has a fragment",
    "file://example.org/a": "not the URL of a file on this machine",
    "file:///a?b": "not the URL of a file on this machine",
    "file://a": "not the URL of a file on this machine",
}

SECRETS = [
    "https://ana:sesame@example.org/a",
    "https://sesame@example.org/a",
    "s3://key:sesame@lake/a",
    "https://lake.s3.amazonaws.com/a?X-Amz-Credential=me&X-Amz-Signature=sesame",
    "https://lake.blob.core.windows.net/a?se=1&sig=sesame",
    "https://example.org/a?ACCESS_TOKEN=sesame",
    "s3://lake/a?aws_secret_access_key=sesame",
    "s3://lake/a?endpoint=http://ana:sesame@127.0.0.1:9000",
    "gs://sesame@lake/a",
    "azure://lake/a?sig=sesame",
]


@pytest.mark.parametrize("url", FORMS)
def test_a_url_is_kept_in_one_form(url: str) -> None:
    assert canonical(url) == FORMS[url]
    assert canonical(FORMS[url]) == FORMS[url]


@pytest.mark.parametrize("url", REFUSED)
def test_what_can_not_be_a_link_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match=REFUSED[url]):
        canonical(url)


@pytest.mark.parametrize("url", SECRETS)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="holds credentials") as caught:
        canonical(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    ["ana:sesame@example.org/a", "ftp://ana:sesame@example.org/a", "https://ana:ses/ame@example.org/a?b"],
)
def test_what_is_no_url_is_shown_without_what_may_be_a_password(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        canonical(url)
    assert "ana:ses" not in str(caught.value)


def test_the_name_of_a_url_is_its_last_part_without_escapes() -> None:
    assert name_of("/in/a%20b%25.csv") == b"a b%.csv"
    assert name_of("/in/") == b""
