"""One spec through all three runners gives the same catalogs: names, versions, content, lineage, aliases."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import Version
from dataset_tasks.session import open_session

HERE = Path(__file__).parent
RUNNERS = ("local", "airflow", "prefect")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("airflow", "prefect")),
    reason="needs both orchestrators: pip install 'dataset-tasks[all]'",
)


def run(runner: str, place: Path) -> None:
    """Runs the spec in `place` by one runner, with a home of its own for each."""
    home = place / runner
    environment = os.environ | {
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    command = [sys.executable, str(HERE / "run_spec.py"), runner, str(place / "shop.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-6000:]


def contents(runner: str, place: Path) -> dict[str, Any]:
    """Everything a catalog says that does not name ids, moments or who asked."""
    with open_session(home=place / runner / "dataset_tasks") as session:
        versions = session.catalog.versions()
        labels = {version.id: version.label for version in versions}

        def described(version: Version) -> dict[str, Any]:
            manifest = session.manifest(version)
            return {
                "state": str(version.state),
                "files": {
                    entry.path.decode(): (entry.size, entry.hash.hex(), labels[entry.owner])
                    for entry in manifest.entries()
                },
                "content": version.content_hash,
                "parents": [labels[each] for each in version.parents],
                "inputs": {each.name: labels[each.ref] for each in version.inputs},
                "previous": labels.get(version.previous_id or ""),
                "tags": version.tags,
                "metadata": dict(version.metadata),
                "pending": version.pending,
                "events": [event.kind for event in session.catalog.events(version_id=version.id)],
            }

        names = {(version.project, version.name) for version in versions}
        aliases = {
            f"{project}/{name}": {alias: labels[v] for alias, v in session.catalog.aliases(project, name).items()}
            for project, name in names
        }
        return {"versions": {version.label: described(version) for version in versions}, "aliases": aliases}


def test_three_runners_make_the_same_versions(tmp_path: Path) -> None:
    shutil.copytree(HERE / "parity", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "data" / "orders"
    source.mkdir(parents=True)
    for month in range(3):
        (source / f"{month}.csv").write_text("\n".join(str(month * 10 + day) for day in range(30)))
    (tmp_path / "data" / "labels").mkdir()
    (tmp_path / "data" / "labels" / "good.txt").write_text("0.csv")

    first = {}
    for runner in RUNNERS:
        run(runner, tmp_path)
        first[runner] = contents(runner, tmp_path)
    assert sorted(first["local"]["versions"]) == [
        f"crm/{name}@1.0.0" for name in ("flat", "labels", "orders", "report", "totals")
    ]
    assert first["local"]["aliases"]["crm/report"] == {"prod": "crm/report@1.0.0"}
    assert first["airflow"] == first["local"]
    assert first["prefect"] == first["local"]

    code = tmp_path / "shop_code.py"
    code.write_text(code.read_text().replace("total * factor", "total * factor + 1"))
    for runner in RUNNERS:
        run(runner, tmp_path)
        second = contents(runner, tmp_path)
        made = sorted(second["versions"].keys() - first["local"]["versions"].keys())
        assert made == ["crm/flat@1.0.1", "crm/report@1.0.1", "crm/totals@1.0.1"], runner
        assert second["versions"] | first["local"]["versions"] == second["versions"], runner
        assert second["aliases"]["crm/report"] == {"prod": "crm/report@1.0.1"}, runner

    last = {}
    for runner in RUNNERS:
        run(runner, tmp_path)
        last[runner] = contents(runner, tmp_path)
        assert len(last[runner]["versions"]) == 8, runner
    assert last["airflow"] == last["local"] == last["prefect"]


def test_a_version_made_by_airflow_is_read_by_a_prefect_task(tmp_path: Path) -> None:
    shutil.copytree(HERE / "parity", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("orders/0.csv", "labels/good.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("1\n2\n3")
    run("airflow", tmp_path)
    script = (
        "import sys\n"
        "from prefect import flow\n"
        "from prefect.testing.utilities import prefect_test_harness\n"
        "from prefect_blocks import get_copy\n"
        "@flow\n"
        "def read(target): return get_copy('crm/report@prod', target=target)\n"
        "with prefect_test_harness(server_startup_timeout=120): print(read(sys.argv[1])['files'])\n"
    )
    environment = os.environ | {
        "DATASET_TASKS_HOME": str(tmp_path / "airflow" / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    command = [sys.executable, "-c", script, str(tmp_path / "copy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "2"
    assert (tmp_path / "copy" / "0.csv").read_text() == "12\n"
