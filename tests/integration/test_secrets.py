"""A canary in every place that a credential may be in shows up nowhere else: whatever is run, and however it fails."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataset_tasks import Dataset
from dataset_tasks.cli.main import run as cli
from dataset_tasks.errors import DatasetError
from dataset_tasks.store import object as object_store
from dataset_tasks.store import s3_bucket
from dataset_tasks.store.transfer import Patience
from tests.integration.bucket_server import Answer, Bucket, served

CANARY = "canary7f3a"
CONFIG = """\
[connections.lake]
endpoint_url = "{endpoint}"
access_key = "{canary}id"
secret_key = "{canary}"
session_token = "{canary}token"
[connections.closed]
endpoint_url = "http://127.0.0.1:1"
secret_key = "{canary}"
access_key = "{canary}id"
[connections.azure]
endpoint_url = "http://127.0.0.1:1/account"
account = "account"
sas_token = "sv=2021-08-06&sig={canary}%3D"
[connections.azure_key]
account = "account"
account_key = "{canary}"
[connections.google]
service_account = '{{"private_key": "{canary}", "client_email": "a@b.c", "private_key_id": "1"}}'
[connections.misspelt]
secret_kay = "{canary}"
[connections.mistyped]
path_style = "{canary}"
"""
SPEC = """\
version: 1
name: noaa
project: noaa
store: {store}
datasets:
  hourly:
    sync: {{path: "s3://lake/in", connection: lake}}
  links: {{external: [{{url: "s3://lake/in", connection: lake}}]}}
  total:
    inputs: [hourly]
    transform: {{run: [{python}, -c, "import os, sys; print(os.environ['PASSWORD']); sys.exit({code})"], env_from: [PASSWORD], always: true}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, served(patch) as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket, home: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket, and the canary in the environment and in the configuration; what does not answer is given up soon."""
    server.fault = None
    server.empty()
    server.put(in__a=b"one", in__b=b"two")
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CONFIG.format(endpoint=server.endpoint, canary=CANARY))
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({"private_key": CANARY}))
    for module in (s3_bucket, object_store):
        monkeypatch.setattr(module, "Patience", lambda: Patience(seconds=0.2, first=0.01, most=0.05))
    return server


def canaries_in(folder: Path, *, but: tuple[str, ...] = ()) -> list[str]:
    """The files of a folder that hold the canary, in whatever they pack."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in but:
            continue
        data = path.read_bytes()
        if data.startswith(b"PAR1"):
            data += repr(pq.ParquetFile(io.BytesIO(data)).read().to_pydict()).encode()
        elif zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data += b"".join(archive.read(name) for name in archive.namelist())
        if CANARY.encode() in data:
            found.append(str(path.relative_to(folder)))
    return found


def told(
    do: Callable[[], object], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], *, fails: bool
) -> str:
    """All that is to be seen of a call: its error with every cause, both streams, and each log at its finest."""
    caplog.set_level(logging.DEBUG)
    said = ""
    with nullcontext() if not fails else pytest.raises(DatasetError) as caught:
        said += repr(do())
    if caught is not None:
        error = caught.value
        said += "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__) + str(error.to_json())
    out, err = capfd.readouterr()
    return said + out + err + caplog.text


def forbidden(kind: str, key: str, answer: Answer) -> Answer:
    """The server knows nobody; it repeats what it was sent, as some do."""
    text = "<Error><Code>InvalidAccessKeyId</Code><Message>Who are you?</Message></Error>"
    return "403 Forbidden", [("Content-Type", "application/xml")], text.encode()


def spec(tmp_path: Path, store: str = "null", code: int = 0) -> Path:
    path = tmp_path / "noaa.yaml"
    path.write_text(SPEC.format(store=store, python=sys.executable, code=code))
    return path


def filled() -> Dataset:
    draft = Dataset.create("hourly", "noaa")
    draft.add_files("s3://lake/in", connection="lake")
    draft.add_external_files("s3://lake/in", dataset_path="links", connection="lake")
    return draft


def stored_in_a_bucket() -> None:
    draft = filled()
    draft.upload(show_progress=True, output_url="s3://lake/store?connection=lake")
    draft.finalize()
    draft.get_local_copy()
    draft.verify_dataset_hash(verbose=True)
    draft.publish()
    repr((draft, draft._version, draft.get_default_storage(), draft.file_entries_dict, draft.get_dependency_graph()))


WELL: dict[str, Callable[[], object]] = {
    "import, link, upload, copy, verify, publish": stored_in_a_bucket,
    "sync": lambda: Dataset.create("hourly", "noaa").sync_folder("s3://lake/in", connection="lake", verbose=True),
}


@pytest.mark.parametrize("name", WELL)
def test_what_ends_well_tells_no_secret(
    name: str, bucket: Bucket, home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert CANARY not in told(WELL[name], caplog, capfd, fails=False)
    assert canaries_in(home, but=("config.toml",)) == []
    objects = bucket.client.list_objects_v2(Bucket="lake").get("Contents", [])
    for key in [each["Key"] for each in objects]:
        assert CANARY.encode() not in bucket.client.get_object(Bucket="lake", Key=key)["Body"].read(), key


def new() -> Dataset:
    return Dataset.create("hourly", "noaa")


def with_a_file() -> Dataset:
    draft = new()
    draft.add_files(__file__)
    return draft


URLS = [
    f"s3://me:{CANARY}@lake/in",
    f"s3://{CANARY}@lake/in",
    f"s3://lake/in?aws_secret_access_key={CANARY}",
    f"s3://lake/in?secret_key={CANARY}",
    f"s3://lake/in?endpoint=http://me:{CANARY}@127.0.0.1:1",
    f"s3://lake/in?endpoint=http%3A%2F%2Fme%3A{CANARY}%40127.0.0.1%3A1",
    f"azure://me:{CANARY}@lake/in",
    f"azure://lake/in?sig={CANARY}",
    f"azure://lake/in?sas_token={CANARY}",
    f"gs://me:{CANARY}@lake/in",
    f"ftp://me:{CANARY}@lake/in",
    f"https://me:{CANARY}@example.org/in?token={CANARY}",
    f"https://me:{CANARY}/x@example.org/in",
]
TAKERS: dict[str, Callable[[str], object]] = {
    "add": lambda url: new().add_files(url),
    "add with a base": lambda url: new().add_files("s3://lake/in", local_base_folder=url),
    "sync": lambda url: new().sync_folder(url),
    "external": lambda url: new().add_external_files(url),
    "create": lambda url: Dataset.create("hourly", "noaa", output_uri=url),
    "upload": lambda url: with_a_file().upload(output_url=url),
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("taker", TAKERS)
def test_credentials_in_a_url_are_refused_with_a_hint_wherever_one_is_taken(
    taker: str,
    url: str,
    bucket: Bucket,
    home: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = told(lambda: TAKERS[taker](url), caplog, capfd, fails=True)
    assert CANARY not in said
    assert "hint: " in said
    assert canaries_in(home, but=("config.toml",)) == []


FAILURES: dict[str, Callable[[], object]] = {
    "no answer": lambda: new().add_files("s3://lake/in", connection="closed"),
    "no answer for a link": lambda: new().add_external_files("s3://lake/in", connection="closed"),
    "no answer for a store": lambda: filled().upload(output_url="s3://lake/store?connection=closed"),
    "no answer of Azure": lambda: new().add_files("azure://lake/in", connection="azure"),
    "a key of Azure that is none": lambda: new().add_files("azure://lake/in", connection="azure_key"),
    "a key of Google that is none": lambda: new().add_files("gs://lake/in", connection="google"),
    "Azure by the environment": lambda: new().add_files("azure://lake/in?account=a&endpoint=http://127.0.0.1:1/a"),
    "Google by the environment": lambda: new().add_external_files("gs://lake/in"),
    "an unknown option": lambda: new().add_files("s3://lake/in", connection="misspelt"),
    "an option of another type": lambda: new().add_files("s3://lake/in", connection="mistyped"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_tells_no_secret(
    name: str, bucket: Bucket, home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert CANARY not in told(FAILURES[name], caplog, capfd, fails=True)
    assert canaries_in(home, but=("config.toml",)) == []


def test_a_refusal_tells_no_secret(
    bucket: Bucket, home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    draft = filled()
    bucket.fault = forbidden
    for do in (
        lambda: draft.add_files("s3://lake/in/a", connection="lake"),
        lambda: draft.upload(output_url="s3://lake/store?connection=lake"),
        lambda: draft.add_external_files("s3://lake/in/b", connection="lake"),
    ):
        assert CANARY not in told(do, caplog, capfd, fails=True)
    assert canaries_in(home, but=("config.toml",)) == []


def cli_calls(tmp_path: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    good, bad = spec(tmp_path), tmp_path / "bad.yaml"
    yield ["plan", str(good)], {}
    yield ["run", str(good)], {}
    yield ["run", str(good), "--json"], {}
    yield ["ls", "noaa/hourly", "--json"], {}
    yield ["log", "noaa/hourly"], {}
    yield ["show", "noaa/hourly", "--json"], {}
    yield ["get", "noaa/hourly", "--to", str(tmp_path / "copy")], {}
    bad.write_text(good.read_text().replace("sys.exit(0)", "sys.exit(7)"))
    yield ["--debug", "run", str(bad)], {}
    bad.write_text(good.read_text().replace("s3://lake/in", f"s3://me:{CANARY}@lake/in"))
    for verb in ("lint", "plan", "run"):
        yield ["--debug", verb, str(bad)], {}
        yield [verb, str(bad), "--json"], {}
    yield ["compile", str(good), "--to", "airflow"], {}
    yield ["graph", str(good)], {}
    for url in (f"postgresql://me:{CANARY}@127.0.0.1:1/db", f"postgresql://me:{CANARY}@/db?host=/nowhere"):
        yield ["--debug", "list"], {"DATASET_TASKS_CATALOG_URL": url}
        yield ["--catalog", url, "list", "--json"], {}
    yield ["--debug", "list"], {"DATASET_TASKS_CATALOG_URL": f"nonsense://me:{CANARY}@h/db"}
    yield ["--debug", "list"], {"DATASET_TASKS_CATALOG_URL": f"postgresql://me:{CANARY}@h:port/db"}
    yield ["--debug", "create", "noaa/x"], {"DATASET_TASKS_STORE_URL": f"s3://me:{CANARY}@lake/store"}


def test_the_command_line_tells_no_secret(
    bucket: Bucket,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    codes = []
    for arguments, environ in cli_calls(tmp_path):
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            codes.append(cli(arguments))
        out, err = capfd.readouterr()
        # The transform prints its variable itself: what users' code prints is theirs, and stands in no file of ours.
        said = "\n".join(line for line in (out + err).splitlines() if line.strip() != CANARY)
        assert CANARY not in said, (arguments, said)
    assert 0 in codes
    assert 1 in codes
    assert CANARY not in caplog.text
    assert canaries_in(home, but=("config.toml",)) == []
    assert canaries_in(tmp_path, but=("bad.yaml",)) == []


# --- in the orchestrators ----------------------------------------------------------------------------------------------

#: What does not answer is given up soon, also in the processes of the orchestrators.
IMPATIENT = """\
from dataset_tasks.store import object as object_store, s3_bucket, transfer
s3_bucket.Patience = object_store.Patience = lambda: transfer.Patience(seconds=0.2, first=0.01, most=0.05)
"""
DAG = (
    IMPATIENT
    + """\
from airflow.sdk import DAG
from airflow_provider.operators import (
    DatasetAddOperator, DatasetCreateOperator, DatasetExternalOperator, DatasetFinalizeOperator, DatasetPublishOperator,
    DatasetSyncOperator, DatasetUploadOperator, DatasetVerifyOperator,
)

with DAG("good"):
    create = DatasetCreateOperator(task_id="create", project="noaa", name="hourly")
    ref = create.output["version_id"]
    tasks = [
        DatasetSyncOperator(task_id="sync", ref=ref, path="s3://lake/in", connection="lake"),
        DatasetExternalOperator(task_id="link", ref=ref, urls="s3://lake/in", dataset_path="links", connection="lake"),
        DatasetUploadOperator(task_id="upload", ref=ref, store="s3://lake/airflow?connection=lake"),
        DatasetFinalizeOperator(task_id="finalize", ref=ref),
        DatasetVerifyOperator(task_id="verify", ref=ref),
        DatasetPublishOperator(task_id="publish", ref=ref),
    ]
    last = create
    for task in tasks:
        last >> task
        last = task

with DAG("broken_catalog"):
    DatasetCreateOperator(task_id="create", project="noaa", name="x", conn_id="broken")

for name, path in {paths}.items():
    with DAG(name):
        made = DatasetCreateOperator(task_id="create", project="noaa", name=name)
        DatasetAddOperator(task_id="add", ref=made.output["version_id"], **path)
"""
)
PATHS = {
    "closed": {"path": "s3://lake/in", "connection": "closed"},
    "no_key": {"path": "azure://lake/in", "connection": "azure_key"},
    "misspelt": {"path": "s3://lake/in", "connection": "misspelt"},
}


def environment(bucket: Bucket, home: Path, more: dict[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        **more,
        "DATASET_TASKS_HOME": str(home),
        "DATASET_TASKS_CATALOG": "embedded",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "CANARY": CANARY,
    }


@pytest.mark.e2e
@pytest.mark.skipif(find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]")
def test_airflow_keeps_no_secret(bucket: Bucket, home: Path, tmp_path: Path) -> None:
    dags, airflow = tmp_path / "dags", tmp_path / "airflow"
    dags.mkdir()
    (dags / "noaa.py").write_text(DAG.replace("{paths}", repr(PATHS)))
    broken = {
        "conn_type": "dataset_tasks",
        "login": "me",
        "password": CANARY,
        "extra": {
            "catalog_url": "mysql://127.0.0.1:1/db"
        },  # refused at once; the command line asks one that does not answer
    }
    more = {
        "AIRFLOW_HOME": str(airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW_CONN_BROKEN": json.dumps(broken),
    }
    script = Path(__file__).parents[1] / "e2e" / "run_dag_test.py"
    command = [sys.executable, str(script), str(dags), "good", "broken_catalog", *PATHS]
    done = subprocess.run(command, env=environment(bucket, home, more), capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('[{"dag"')] or [done.stderr[-3000:]]
    states = {one["dag"]: one["state"] for one in json.loads(line)}
    assert states == {"good": "success", "broken_catalog": "failed"} | dict.fromkeys(PATHS, "failed"), done.stderr[
        -3000:
    ]
    # At this level Airflow itself tells what it is asked to mask, and that is the only place.
    said = [line for line in (done.stdout + done.stderr).splitlines() if "MaskSecret(" not in line]
    assert [line for line in said if CANARY in line] == []
    assert canaries_in(airflow) == []  # XCom, rendered fields, serialized DAGs, logs
    assert canaries_in(home, but=("config.toml",)) == []


FLOW = (
    IMPATIENT
    + """\
import json, os, sys
from prefect import flow
from prefect.client.orchestration import get_client
from prefect_blocks import DatasetCatalog, S3Credentials, S3Store, add_external_files, add_files, create_dataset
from prefect_blocks import finalize_dataset, upload_dataset

endpoint, canary = sys.argv[1], os.environ["CANARY"]
key = S3Credentials(access_key=canary + "id", secret_key=canary, session_token=canary)
S3Store(bucket="lake", credentials=key, endpoint_url=endpoint).save("block")
S3Store(bucket="lake", credentials=key, endpoint_url="http://127.0.0.1:1").save("shut")
DatasetCatalog(embedded=True).save("here")
DatasetCatalog(catalog_url=f"mysql://me:{canary}@127.0.0.1:1/db").save("broken")

@flow
def good():
    catalog = DatasetCatalog.load("here")
    draft = create_dataset("hourly", "noaa", catalog=catalog)
    add_files(draft, "s3://lake/in", connection="block", catalog=catalog)
    add_external_files(draft, "s3://lake/in", dataset_path="links", connection="block", catalog=catalog)
    upload_dataset(draft, store="s3://lake/prefect?connection=block", catalog=catalog)
    finalize_dataset(draft, catalog=catalog)

@flow
def closed():
    catalog = DatasetCatalog.load("here")
    add_files(create_dataset("x", "noaa", catalog=catalog), "s3://lake/in", connection="shut", catalog=catalog)

@flow
def broken_catalog():
    create_dataset("x", "noaa", catalog=DatasetCatalog.load("broken"))

states = {made.fn.__name__: made(return_state=True).type.value for made in (good, closed, broken_catalog)}
with get_client(sync_client=True) as client:
    kept = [client.request("POST", f"/{what}/filter", json={}).text for what in ("artifacts", "flow_runs", "task_runs", "logs")]
print(json.dumps([states, "".join(kept)]))
"""
)


@pytest.mark.e2e
@pytest.mark.skipif(find_spec("prefect") is None, reason="pip install dataset-tasks[prefect]")
def test_prefect_keeps_no_secret(bucket: Bucket, home: Path, tmp_path: Path) -> None:
    script, prefect = tmp_path / "flows.py", tmp_path / "prefect"
    script.write_text(FLOW)
    more = {
        "PREFECT_HOME": str(prefect),
        "PREFECT_LOCAL_STORAGE_PATH": str(prefect / "storage"),
        "PREFECT_MEMO_STORE_PATH": str(prefect / "memo_store.toml"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_API_URL": "",
    }
    command = [sys.executable, str(script), bucket.endpoint]
    done = subprocess.run(command, env=environment(bucket, home, more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    states, kept = json.loads(done.stdout.splitlines()[-1])
    assert states == {"good": "COMPLETED", "closed": "FAILED", "broken_catalog": "FAILED"}, done.stderr[-5000:]
    assert CANARY not in kept
    assert CANARY not in done.stdout + done.stderr
    assert canaries_in(prefect) == []  # blocks are encrypted there
    assert canaries_in(home, but=("config.toml",)) == []
