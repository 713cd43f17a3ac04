"""Named connections: where a name is looked up, what is refused, that no secret shows."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from dataset_tasks import connections
from dataset_tasks.connections import SECRETS, StoreOptions, register_resolver, resolve, unregister_resolver
from dataset_tasks.errors import InvalidArgumentError, NotFoundError

pytestmark = pytest.mark.usefixtures("only_local_connections")


def write(home: Path, text: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(text)


def test_a_connection_is_read_from_the_home(home: Path, tmp_path: Path) -> None:
    write(home, '[connections.lake]\nendpoint_url = "https://e"\npath_style = true\nsecret_key = "s"\n')
    assert resolve("lake") == StoreOptions(endpoint_url="https://e", path_style=True, secret_key="s")
    write(tmp_path, '[connections.lake]\nregion = "other"\n')
    assert resolve("lake", home=tmp_path).region == "other"


def test_no_secret_is_shown() -> None:
    values = {each.name: f"canary-{each.name}" for each in fields(StoreOptions) if each.type == "str"}
    shown = repr(StoreOptions(**values))
    assert {name for name in values if f"canary-{name}" not in shown} == SECRETS


def test_a_name_that_nobody_knows_is_an_error_with_those_that_are_known(home: Path) -> None:
    with pytest.raises(NotFoundError, match="no connection 'lake'"):
        resolve("lake")
    write(home, "[connections.pond]\n[connections.sea]\n")
    with pytest.raises(NotFoundError) as caught:
        resolve("lake")
    assert "pond, sea" in caught.value.hint
    assert "[connections.lake]" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "[connections.lake]\nsecret = 'canary'\n", "[connections.lake]\nregion = 5\n", "connections = 'canary'\n",
        "[connections.lake]\npath_style = 'canary'\n", "[connections]\nlake = 'canary'\n", "canary canary", "\xff",
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_refused_without_its_values(home: Path, text: str) -> None:
    home.mkdir(parents=True)
    (home / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidArgumentError) as caught:
        resolve("lake")
    assert "canary" not in str(caught.value)
    assert caught.value.hint


def test_resolvers_come_first_the_last_registered_before_all(home: Path) -> None:
    def old(name: str) -> StoreOptions | None:
        return StoreOptions(region="old") if name in ("lake", "pond") else None

    def new(name: str) -> StoreOptions | None:
        return StoreOptions(region="new") if name == "lake" else None

    write(home, '[connections.lake]\nregion = "file"\n[connections.sea]\nregion = "file"\n')
    for resolver in (old, new, new):
        register_resolver(resolver)
    try:
        assert [resolve(name).region for name in ("lake", "pond", "sea")] == ["new", "old", "file"]
    finally:
        for resolver in (old, new, new):
            unregister_resolver(resolver)
    assert resolve("lake").region == "file"
    assert old not in connections._resolvers
