"""A folder of specs as a bundle: one DAG file a spec, which follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider.bundles.specs import SpecDagBundle
from dataset_tasks.errors import InvalidArgumentError

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


def test_a_folder_that_depends_on_where_airflow_runs_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="relative"):
        SpecDagBundle(name="specs", specs="specs")


def test_a_bundle_has_no_versions_of_its_own(bundle: SpecDagBundle) -> None:
    assert bundle.get_current_version() is None
    assert not bundle.supports_versioning
