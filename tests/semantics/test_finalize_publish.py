"""SEMANTICS, finalize and publish."""

from __future__ import annotations

import pytest

from dataset_tasks.errors import IntegrityError, StateError
from dataset_tasks.handle.base import default_session


def events(version, kind: str) -> int:
    return [event.kind for event in default_session().catalog.events(version_id=version.id)].count(kind)


def test_finalize_with_pending_entries_is_an_error(draft):
    version = draft({"a": "1"})
    with pytest.raises(StateError) as raised:
        version.finalize()
    assert raised.value.kind == "pending_uploads"
    assert "upload" in raised.value.hint
    assert not version.is_final()


def test_finalize_with_pending_entries_is_false_when_no_error_is_wanted(draft, caplog):
    version = draft({"a": "1"})
    assert version.finalize(raise_on_error=False) is False
    assert "not uploaded" in caplog.text
    assert not version.is_final()


def test_finalize_returns_true_and_again_has_no_effect(draft):
    version = draft({"a": "1"})
    version.upload(show_progress=False)
    assert version.finalize() is True
    before = default_session().catalog.version(version.id)
    assert version.finalize() is True
    assert default_session().catalog.version(version.id) == before
    assert events(version, "finalized") == 1


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_finalize_checks_that_every_chunk_is_in_the_store_with_its_size(draft, home, damage):
    version = draft({"a": "1"})
    version.upload(show_progress=False)
    (chunk,) = home.rglob("chunks/*.zip")
    if damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=chunk.stem):
        version.finalize()
    assert version.finalize(raise_on_error=False) is False
    assert not version.is_final()


def test_finalize_checks_the_chunks_of_parents_too(final, draft, home):
    child = draft(parents=[final({"a": "1"})])
    (chunk,) = home.rglob("chunks/*.zip")
    chunk.unlink()
    assert child.finalize(raise_on_error=False) is False


def test_an_empty_version_finalizes(draft, content):
    version = draft()
    assert version.finalize()
    assert content(version) == {}
    assert version.publish()


def test_verbose_finalize_says_what_it_holds(draft, capsys):
    version = draft({"a": "123"})
    version.upload(show_progress=False)
    version.finalize(verbose=True)
    assert "1 files, 3 bytes" in capsys.readouterr().out


def test_publish_on_a_version_that_is_not_final_is_an_error_or_false(draft, caplog):
    version = draft()
    with pytest.raises(StateError) as raised:
        version.publish()
    assert raised.value.kind == "not_finalized"
    assert version.publish(raise_on_error=False) is False
    assert "finalized" in caplog.text


def test_an_error_that_is_not_raised_is_logged(draft, caplog):
    version = draft({"a": "1"})
    assert version.finalize(raise_on_error=False) is False
    assert f"{version.project}/{version.name}@{version.version}" in caplog.text
    caplog.clear()
    assert version.publish(raise_on_error=False) is False
    assert f"{version.project}/{version.name}@{version.version}" in caplog.text


def test_publish_again_is_true_and_there_is_one_publish_event(final):
    version = final({"a": "1"})
    assert version.publish() is True
    before = default_session().catalog.version(version.id)
    assert version.publish() is True
    assert default_session().catalog.version(version.id) == before
    assert events(version, "published") == 1
