"""Which places are read: metadata services never, and the list of whoever runs the machine, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.external import canonical, policy
from dataset_tasks.external.policy import ALLOWED, check_url, is_metadata
from dataset_tasks.ops.requests import Transform
from dataset_tasks.session import open_session

METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.1.1", "[fe80::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "2852039166", "0xa9fea9fe", "0xa9.254.169.254", "0251.0376.0251.0376",
    "169.254.43518", "100.100.100.200", "168.63.129.16", "metadata.google.internal", "METADATA.google.internal.",
]  # fmt: skip
OTHERS = [
    "example.org",
    "127.0.0.1",
    "10.0.0.1",
    "169.253.1.1",
    "[2001:db8::1]",
    "0x7f000001",
    "1.2.3.4.5",
    "999",
    "x.1",
]


@pytest.mark.parametrize("host", METADATA)
def test_where_clouds_keep_credentials_nothing_is_read(host: str) -> None:
    for url in (f"http://{host}/latest/meta-data/", f"https://{host}:8080/a", f"s3://lake/a?endpoint=http://{host}"):
        with pytest.raises(InvalidArgumentError, match="clouds keep the credentials") as caught:
            check_url(canonical(url))
        assert (caught.value.kind, bool(caught.value.hint)) == (policy.REFUSED, True)


@pytest.mark.parametrize("host", OTHERS)
def test_other_hosts_are_no_metadata_services(host: str) -> None:
    assert not is_metadata(host)


LIST = "s3://lake/in https://data.example.org/ gs://noaa"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("s3://lake/in", True),
        ("s3://lake/in/a/b.csv", True),
        ("s3://lake/inner", False),
        ("s3://lake/", False),
        ("s3://lake2/in/a", False),
        ("s3://lake/in/../out", True),  # one key of S3, with dots in its name
        ("https://data.example.org/a", True),
        ("https://DATA.example.org/a", True),
        ("http://data.example.org/a", False),
        ("https://data.example.org:8443/a", False),
        ("https://data.example.org.evil.org/a", False),
        ("https://data.example.org/a/../b", False),
        ("https://data.example.org/a/%2e%2e/b", False),
        ("gs://noaa/hourly", True),
        ("azure://noaa/hourly", False),
        ("file:///etc/passwd", False),
    ],
)
def test_only_what_lies_below_the_list_is_read_where_there_is_one(
    url: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, LIST)
    if allowed:
        check_url(canonical(url))
        return
    with pytest.raises(InvalidArgumentError, match="none of the places that may be read") as caught:
        check_url(canonical(url))
    assert (caught.value.kind, ALLOWED in caught.value.hint) == (policy.REFUSED, True)


def test_files_are_read_below_the_folders_of_the_list_wherever_links_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in/a", "out/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    os.symlink(tmp_path / "out", tmp_path / "in" / "link")
    os.symlink(tmp_path / "in", tmp_path / "door")
    monkeypatch.setenv(ALLOWED, f"{tmp_path}/door s3://lake")
    draft = Dataset.create("data", "demo")
    assert draft.add_files(tmp_path / "in") == 1
    assert draft.add_external_files((tmp_path / "in" / "a").as_uri(), dataset_path="links") == 1
    for path in (tmp_path / "out", tmp_path / "in" / "link" / "b", tmp_path):
        adds = [draft.add_files, lambda each: draft.add_external_files(each.as_uri())]
        for add in [*adds, draft.sync_folder] if path.is_dir() else adds:
            with pytest.raises(InvalidArgumentError, match="may be read"):
                add(path)
    assert draft.list_files() == ["a", "links/a"]


def test_a_link_inside_an_allowed_folder_that_leads_out_of_it_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in/a", "in/sub/b", "out/secret"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    os.symlink(tmp_path / "out" / "secret", tmp_path / "in" / "sub" / "leak")
    os.symlink(tmp_path / "in" / "a", tmp_path / "in" / "twin")
    monkeypatch.setenv(ALLOWED, f"{tmp_path}/in")
    draft = Dataset.create("data", "demo")
    adds = [draft.add_files, draft.sync_folder, lambda each: draft.add_external_files(each.as_uri())]
    for add in adds:
        with pytest.raises(SourceError, match=r"sub/leak: is a link to .*/out/secret, which is none of the places"):
            add(tmp_path / "in")
    assert draft.list_files() == []
    assert draft.add_files(tmp_path / "in", on_error="skip") == 3
    assert draft.list_files() == ["a", "sub/b", "twin"]
    monkeypatch.delenv(ALLOWED)
    assert draft.add_files(tmp_path / "in") == 1


def test_what_a_transform_writes_is_added_whatever_the_list_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, "s3://lake")
    draft = Dataset.create("data", "demo")

    def write(inputs: object, output: Path) -> None:
        (output / "a").write_text("a")

    with open_session() as session:
        session.run(Transform(ref=draft.id, call="work:write"), functions={"work:write": write})
    assert draft.list_files() == ["a"]


def test_an_empty_list_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "")
    with pytest.raises(InvalidArgumentError, match="may be read"):
        check_url("s3://lake/a")


def test_a_link_that_somebody_else_added_is_not_read_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    dataset = Dataset.create("data", "demo")
    dataset.add_external_files((tmp_path / "a").as_uri())
    dataset.finalize()
    monkeypatch.setenv(ALLOWED, "s3://lake")
    with pytest.raises(InvalidArgumentError, match="may be read"):
        dataset.get_local_copy()
