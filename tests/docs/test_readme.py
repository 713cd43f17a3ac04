"""What the README shows is run, and what it names is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tasks.model import State
from dataset_tasks.ops.requests import AddFiles, Build, Create, Finalize, Publish, Stage, Upload
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.explain import explain
from dataset_tasks.spec.run import run_plan

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    """The only block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert isinstance(found, str)
    return found


@pytest.fixture
def spec(flights_source: Path, tmp_path: Path) -> Path:
    """The README's spec as a file, with its source beside it."""
    shutil.copytree(flights_source, tmp_path / "data" / "nycflights13")
    path = tmp_path / "specs" / "flights.yaml"
    path.parent.mkdir()
    path.write_text(_block("yaml"))
    return path


def test_the_spec_has_twenty_lines() -> None:
    assert len(_block("yaml").splitlines()) == 20


def test_the_picture_is_the_one_that_graph_draws(spec: Path) -> None:
    assert explain(compile_spec(spec), "mermaid").strip() == _block("mermaid").strip()


def test_the_spec_runs_and_publishes(spec: Path, home: Path) -> None:
    with open_session(home=home) as session:
        assert run_plan(compile_spec(spec), session).ok
        assert session.catalog.resolve("nyc/training@prod").state is State.PUBLISHED


def test_edited_weather_leaves_raw_and_by_month_as_they_are(spec: Path, home: Path) -> None:
    weather = spec.parent.parent / "data" / "nycflights13" / "weather.csv"
    with open_session(home=home) as session:
        run_plan(compile_spec(spec), session)
        before = {version.dataset for version in session.catalog.versions()}
        lines = weather.read_text().splitlines(keepends=True)
        weather.write_text("".join(lines[:-500]))
        run_plan(compile_spec(spec), session)
        again = [version.name for version in session.catalog.versions() if version.version == "1.0.1"]
    assert len(before) == 5
    assert again == ["weather", "delays", "training"]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^make (\S+)", _block("bash"), re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    named = {*targets, *re.findall(r"`make (\S+)`", README)}
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.airflow
@pytest.mark.slow
def test_the_first_lines_make_a_version_in_airflow(tmp_path: Path, home: Path) -> None:
    _publish_orders(tmp_path, home)
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "crm.py").write_text(_block("python"))
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "DATASET_TASKS_CATALOG": "embedded",
    }
    for command in (["db", "migrate"], ["dags", "test", "crm"]):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with open_session(home=home) as session:
        made = session.catalog.resolve("crm/features@latest")
        assert [read.name for read in made.inputs] == ["orders"]


def _publish_orders(folder: Path, home: Path) -> None:
    (folder / "orders").mkdir()
    (folder / "orders" / "january.csv").write_text("ana,10\n")
    draft = "step:orders.create"
    stages = {
        "create": Create(project="crm", name="orders"),
        "add": AddFiles(ref=draft, path=str(folder / "orders")),
        "upload": Upload(ref=draft),
        "finalize": Finalize(ref=draft),
    }
    with open_session(home=home) as session:
        build = Build(stages=tuple(Stage(id=f"orders.{verb}", request=request) for verb, request in stages.items()))
        session.run(Publish(ref=session.run(build).version_id))
