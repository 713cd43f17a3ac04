"""A folder of specs as a bundle: one DAG file a spec, which follows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider.bundles.specs import SpecDagBundle
from dataset_tasks.errors import InvalidArgumentError, SourceError

GOOD = "version: 1\nname: {name}\nproject: crm\ndatasets:\n  orders:\n    add: [{{path: /data}}]\n"
BROKEN = GOOD.format(name="broken") + "    publis: true\n"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    (folder / "more").mkdir(parents=True)
    (folder / "shop.yaml").write_text(GOOD.format(name="shop"))
    (folder / "more" / "crm.yml").write_text(GOOD.format(name="crm"))
    (folder / "broken.yaml").write_text(BROKEN)
    (folder / "dataset-tasks.yaml").write_text("profiles: {}\n")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def bundle(specs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpecDagBundle:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    made = SpecDagBundle(name="specs", specs=str(specs), conn_id="lake", tags=["spec"])
    made.initialize()
    return made


def stubs(bundle: SpecDagBundle) -> dict[str, str]:
    return {str(path.relative_to(bundle.path)): path.read_text() for path in sorted(bundle.path.rglob("*"))
            if path.is_file()}  # fmt: skip


def test_there_is_a_dag_file_for_each_spec_and_a_broken_one_hides_no_other(bundle: SpecDagBundle, dag_bag: Any) -> None:
    assert list(stubs(bundle)) == ["broken.yaml.py", "more/crm.yml.py", "shop.yaml.py"]
    bag = dag_bag(bundle.path)
    assert sorted(bag.dags) == ["crm", "shop"]
    assert {task.conn_id for dag in bag.dags.values() for task in dag.tasks} == {"lake"}
    assert {tag for dag in bag.dags.values() for tag in dag.tags} == {"spec"}
    ((place, error),) = bag.import_errors.items()
    assert place.endswith("broken.yaml.py")
    assert "broken.yaml:7:5" in error
    assert "did you mean 'publish'?" in error


def test_the_files_follow_the_specs(bundle: SpecDagBundle, specs: Path) -> None:
    before = stubs(bundle)
    times = {path: path.stat().st_mtime_ns for path in bundle.path.rglob("*.py")}
    bundle.refresh()
    assert {path: path.stat().st_mtime_ns for path in bundle.path.rglob("*.py")} == times  # nothing to read again
    (specs / "shop.yaml").write_text(GOOD.format(name="shop2"))
    (specs / "broken.yaml").unlink()
    bundle.refresh()
    after = stubs(bundle)
    assert list(after) == ["more/crm.yml.py", "shop.yaml.py"]
    assert after["shop.yaml.py"] != before["shop.yaml.py"]
    assert after["more/crm.yml.py"] == before["more/crm.yml.py"]


def test_a_folder_that_is_not_mounted_takes_no_dags_away(bundle: SpecDagBundle, specs: Path) -> None:
    before = stubs(bundle)
    specs.rename(specs.with_name("away"))
    with pytest.raises(SourceError, match="does not exist") as raised:
        bundle.refresh()
    assert "mounted" in raised.value.hint
    assert stubs(bundle) == before


def test_what_is_hidden_is_no_spec(bundle: SpecDagBundle, specs: Path) -> None:
    before = stubs(bundle)
    (specs / ".github" / "workflows").mkdir(parents=True)
    (specs / ".github" / "workflows" / "ci.yaml").write_text("on: push\n")
    (specs / ".#shop.yaml").write_text("half an edit")
    bundle.refresh()
    assert stubs(bundle) == before


def test_datasets_that_are_watched_are_so_in_every_dag_of_a_bundle(specs: Path, tmp_path: Path, dag_bag: Any) -> None:
    (specs / "shop.yaml").write_text(GOOD.format(name="shop") + "    publish: true\n")
    made = SpecDagBundle(name="watching", specs=str(specs), watched=["crm/orders"])
    made.initialize()
    (task,) = (task for task in dag_bag(made.path).dags["shop"].tasks if task.outlets)
    assert [watcher.name for watcher in task.outlets[0].watchers] == ["crm/orders published"]


def test_what_its_files_import_is_loaded_before_they_are_parsed(specs: Path, tmp_path: Path) -> None:
    """The DAG processor forks a process for each file: what it has loaded itself costs those nothing."""
    code = (
        "import sys\nfrom airflow_provider.bundles.specs import SpecDagBundle\n"
        "assert 'airflow_provider.dags' not in sys.modules\n"
        f"SpecDagBundle(name='specs', specs={str(specs)!r}).refresh()\n"
        "assert 'airflow_provider.dags' in sys.modules\n"
    )
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_depends_on_where_airflow_runs_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="relative"):
        SpecDagBundle(name="specs", specs="specs")


def test_a_bundle_has_no_versions_of_its_own(bundle: SpecDagBundle) -> None:
    assert bundle.get_current_version() is None
    assert not bundle.supports_versioning
