"""The pages as a FastAPI app: who may see and answer what, and templates filled in.

Airflow checks nothing for the apps of plugins, so each route says what its user must be allowed: to be logged in and to
read assets, and to change assets for an answer. No `from __future__ import annotations`: FastAPI reads the annotations.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset, requires_authenticated
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from airflow_provider import settings
from airflow_provider.compat import AirflowNotFoundException
from airflow_provider.hooks.dataset import DatasetHook
from airflow_provider.pages import views
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.cli.words import moment, size
from dataset_tasks.errors import DatasetError, NotFoundError, StateError

_MAY_READ = [Depends(requires_access_asset("GET"))]
_MAY_ANSWER = [Depends(requires_access_asset("POST"))]
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
}


def _catalog() -> Catalog:
    return DatasetHook(settings.connection_id()).get_session().catalog


def make_app(catalog: Callable[[], Catalog] = _catalog) -> FastAPI:
    """The app.

    Args:
        catalog: Gives the catalog that the pages show; default that of the configured connection.
    """
    pages = _Templates()
    app = FastAPI(dependencies=[Depends(requires_authenticated())], docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(DatasetError)
    def failed(request: Request, error: DatasetError) -> HTMLResponse:
        status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, StateError) else 503
        return pages.show(request, "error.html", status=status, message=error.message, hint=error.hint)

    @app.exception_handler(AirflowNotFoundException)
    def unknown_connection(request: Request, error: AirflowNotFoundException) -> HTMLResponse:
        hint = "Make it, or name another one as [dataset_tasks] conn_id."
        return pages.show(request, "error.html", status=503, message=str(error), hint=hint)

    @app.get("/", dependencies=_MAY_READ)
    def datasets(request: Request, q: str = "") -> HTMLResponse:
        return pages.show(request, "datasets.html", rows=views.datasets(catalog(), q), wanted=q)

    @app.get("/datasets/{dataset:path}", dependencies=_MAY_READ)
    def dataset(request: Request, dataset: str, before: int | None = None) -> HTMLResponse:
        rows, aliases = views.versions(catalog(), dataset, before)
        more = rows[-1].sequence if len(rows) == views.PAGE else None
        return pages.show(
            request, "versions.html", title=dataset, rows=rows, aliases=aliases, more=more, dataset=dataset
        )

    @app.get("/versions/{version_id}", dependencies=_MAY_READ)
    def version(request: Request, version_id: str, user: GetUserDep) -> HTMLResponse:
        page = views.version_page(catalog(), version_id)
        return pages.show(request, "version.html", page=page, user=user.get_name(), picture=Markup(page.picture))  # noqa: S704  # draw() escapes

    @app.get("/approvals", dependencies=_MAY_READ)
    def approvals(request: Request, user: GetUserDep) -> HTMLResponse:
        waiting, answered = views.questions(catalog())
        return pages.show(request, "approvals.html", waiting=waiting, answered=answered, user=user.get_name())

    @app.post("/approvals/{version_id}", dependencies=_MAY_ANSWER)
    async def answer(request: Request, version_id: str, user: GetUserDep) -> RedirectResponse:
        form = {key: values[-1] for key, values in parse_qs((await request.body()).decode()).items()}
        await _in_thread(_answer, catalog, version_id, user.get_name(), form)
        return RedirectResponse(f"{request.scope['root_path']}/versions/{version_id}", status_code=303)

    @app.get("/dags/{dag_id}", dependencies=_MAY_READ)
    def dag(request: Request, dag_id: str) -> HTMLResponse:
        rows = catalog().newest(origin={"dag_id": dag_id}, limit=views.PAGE)
        return pages.show(request, "versions.html", title=f"Made by DAG {dag_id}", rows=rows, aliases={}, more=None)

    @app.get("/dags/{dag_id}/runs/{run_id:path}", dependencies=_MAY_READ)
    def run(request: Request, dag_id: str, run_id: str) -> HTMLResponse:
        rows = catalog().newest(origin={"dag_id": dag_id, "run_id": run_id}, limit=views.PAGE)
        return pages.show(request, "versions.html", title=f"Made by run {run_id}", rows=rows, aliases={}, more=None)

    return app


async def _in_thread(work: Callable[..., None], *arguments: Any) -> None:  # Any: passed on
    from starlette.concurrency import run_in_threadpool

    await run_in_threadpool(work, *arguments)


def _answer(catalog: Callable[[], Catalog], version_id: str, who: str, form: dict[str, str]) -> None:
    """Writes down an answer.

    Raises:
        StateError: Nobody asked this user, or another answer was given before.
    """
    held = catalog()
    asked = held.approval(version_id)
    if asked is not None and asked.by and who not in asked.by:
        raise StateError(
            f"{who} is not asked about {held.version(version_id).label}", hint=f"Asked: {', '.join(asked.by)}."
        )
    held.answer(version_id, form.get("answer") == "approve", who, form.get("note", ""))


class _Templates:
    """The folder of templates, with what all of them use."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
        )
        self._environment.filters["size"] = size
        self._environment.filters["moment"] = moment

    def show(self, request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # Any: its own
        text = self._environment.get_template(name).render(base=request.scope["root_path"], **values)
        return HTMLResponse(text, status_code=status, headers=_HEADERS)
