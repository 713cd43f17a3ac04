"""The pages: what they show, who may see them, what an answer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.api_fastapi.core_api import security
from fastapi import HTTPException
from fastapi.testclient import TestClient

from airflow_provider.pages import views
from airflow_provider.pages.app import make_app
from airflow_provider.plugin import DatasetTasksPlugin
from dataset_tasks.errors import CatalogUnavailableError
from dataset_tasks.model import Input, State
from tests.unit.airflow.catalogs import Shop, shop

__all__ = ["shop"]


class User:
    """Somebody who is logged in."""

    def __init__(self, name: str, *, may: tuple[str, ...]) -> None:
        self.name = name
        self.may = may

    def get_name(self) -> str:
        return self.name

    def get_id(self) -> str:
        return self.name


@pytest.fixture
def as_user(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[User | None], TestClient]:
    """The pages as one user sees them; None is nobody."""

    class Manager:
        def is_authorized_asset(self, *, method: str, details: Any, user: User) -> bool:
            return method in user.may

    monkeypatch.setattr(security, "get_auth_manager", Manager)

    def opened(user: User | None) -> TestClient:
        def known() -> User:
            if user is None:
                raise HTTPException(401)
            return user

        app = make_app(lambda: shop.catalog)
        app.dependency_overrides[security.get_user] = known
        return TestClient(app, follow_redirects=False)

    return opened


ANA = User("ana", may=("GET", "POST"))
VERA = User("vera", may=("GET",))


@pytest.mark.parametrize(
    "path", ["/", "/approvals", "/datasets/crm/orders", "/versions/x", "/dags/a", "/dags/a/runs/b"]
)
def test_nobody_sees_anything_without_login_or_leave(as_user: Any, path: str) -> None:
    assert as_user(None).get(path).status_code == 401
    assert as_user(User("eve", may=())).get(path).status_code == 403


def test_every_route_says_who_may_take_it(shop: Shop) -> None:
    for route in make_app(lambda: shop.catalog).routes:
        names = {dependency.call.__qualname__ for dependency in route.dependant.dependencies}  # type: ignore[attr-defined]
        assert any("requires_authenticated" in name for name in names), route
        assert any("requires_access_asset" in name for name in names), route


def test_the_list_shows_each_dataset_with_its_newest_version(shop: Shop, as_user: Any) -> None:
    page = as_user(VERA)
    assert "No version was made yet" in page.get("/").text
    shop.published(alias="prod")
    newest = shop.published()
    shop.completed("visits")
    text = page.get("/").text
    assert text.count("/datasets/crm/") == 2
    assert f"/versions/{newest.id}" in text
    assert ">prod</a>" in text
    found = page.get("/", params={"q": "VIS"}).text
    assert "crm/visits" in found
    assert "crm/orders" not in found


def test_versions_come_in_pages_newest_first(shop: Shop, as_user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAGE", 2)
    made = [shop.completed() for _ in range(3)]
    page = as_user(VERA)
    first = page.get("/datasets/crm/orders").text
    assert first.index(made[2].label) < first.index(made[1].label)
    assert made[0].label not in first
    older = f"/datasets/crm/orders?before={made[1].sequence}"
    assert older in first
    assert made[0].label in page.get(older).text
    assert page.get("/datasets/crm/nothing").status_code == 404
    assert page.get("/datasets/nothing").status_code == 404


def test_a_version_shows_its_lineage_and_escapes_what_users_wrote(shop: Shop, as_user: Any) -> None:
    source = shop.published("raw")
    parent = shop.published("base")
    version = shop.published(
        parents=(parent.id,), inputs=(Input(name="raw", ref=source.id),), description="<script>alert(1)</script>",
        metadata={"rows": [1, 2]}, tags=["a&b"],
    )  # fmt: skip
    child = shop.draft("below", parents=(version.id,))
    answer = as_user(VERA).get(f"/versions/{version.id}")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "a&amp;b" in text
    for other in (source, parent, child):
        assert f'href="/versions/{other.id}"' in text
        assert other.dataset in text[text.index("<svg") : text.index("</svg>")]
    assert "input raw" in text
    assert version.content_hash in text


def test_a_lineage_that_is_large_is_cut(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_MOST", 3)
    sources = [shop.completed(f"s{number}") for number in range(5)]
    version = shop.completed(inputs=tuple(Input(name=one.name, ref=one.id) for one in sources))
    assert views.lineage_picture(shop.catalog, version).count("<rect") == 3


def test_what_a_dag_and_a_run_made(shop: Shop, as_user: Any) -> None:
    for dag, run in (("shop", "one"), ("shop", "two"), ("shop_2", "one")):
        origin = {"runner": "airflow", "dag_id": dag, "run_id": run, "task_id": "t"}
        shop.session.run(views_create(run), origin=origin)
    page = as_user(VERA)
    assert page.get("/dags/shop").text.count('class="state') == 2
    assert page.get("/dags/shop/runs/one").text.count('class="state') == 1
    assert "No version was made here" in page.get("/dags/none").text


def views_create(name: str) -> Any:
    from dataset_tasks.ops.requests import Create

    return Create(project="crm", name=name)


def test_an_answer_is_taken_from_who_is_asked_and_may_give_it(shop: Shop, as_user: Any) -> None:
    version = shop.completed()
    shop.catalog.open_approval(version, by=("ana",), alias="prod")
    where, yes = f"/approvals/{version.id}", {"answer": "approve", "note": "good"}
    for user in (ANA, VERA):
        assert version.label in as_user(user).get("/approvals").text
    assert "<form" in as_user(ANA).get("/approvals").text
    assert "<form" not in as_user(VERA).get("/approvals").text
    assert as_user(VERA).post(where, data=yes).status_code == 403
    assert as_user(User("bob", may=("GET", "POST"))).post(where, data=yes).status_code == 409
    assert shop.catalog.approval(version.id).state == "open"  # type: ignore[union-attr]
    answer = as_user(ANA).post(where, data=yes)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/versions/{version.id}")
    assert as_user(ANA).post(where, data={"answer": "reject"}).status_code == 409
    held = shop.catalog.approval(version.id)
    assert held is not None
    assert (held.state, held.who, held.note) == ("approved", "ana", "good")
    assert "approved by ana" in as_user(VERA).get("/approvals").text


def test_a_question_that_nobody_answered_in_time_is_answered_by_looking(shop: Shop, as_user: Any) -> None:
    version = shop.completed()
    shop.catalog.open_approval(version, timeout=1e-6)
    assert "rejected: nobody answered" in as_user(VERA).get("/approvals").text
    assert shop.catalog.version(version.id).state is State.COMPLETED


def test_a_catalog_that_is_away_is_said_and_not_hidden(as_user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise CatalogUnavailableError("the catalog is locked", hint="Try again.")

    monkeypatch.setattr(views, "datasets", away)
    answer = as_user(VERA).get("/")
    assert answer.status_code == 503
    assert "the catalog is locked" in answer.text


def test_the_plugin_loads_no_page_before_one_is_asked_for() -> None:
    import subprocess
    import sys

    code = (
        "import sys, airflow_provider.plugin; print([m for m in sys.modules if m.startswith('airflow_provider.pages')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert {view["destination"] for view in DatasetTasksPlugin.external_views} == {"nav", "dag", "dag_run"}
