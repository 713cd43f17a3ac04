"""`dataset-tasks deploy` on a real server: served with a schedule, started by a publish, run by a worker of a pool."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dataset_tasks.session import Session
from example_flows.demo.prefect import query
from example_flows.demo.services import START_TIMEOUT, json_object, service, wait_for
from tests.e2e.prefect.conftest import ENDED, Server, versions

TICKS = """
version: 1
name: ticks
project: lab
schedule: {every: 1m}
datasets:
  raw: {add: [{path: data}], metadata: {until: "${run.interval_end}"}, on_unchanged: version, publish: true}
  same: {add: [{path: data}]}
"""
TICK = """
from pathlib import Path
from prefect_blocks import flow_from_spec
ticks = flow_from_spec(Path(__file__).with_name("ticks.yaml"))
if __name__ == "__main__":
    ticks.serve("ticks", interval=20, limit=1)  # the spec's own minute takes too long for a test
"""
FOLLOWS = """
version: 1
name: follows
project: lab
schedule: {after: [lab/raw]}
datasets:
  copy: {parents: [lab/raw], publish: true}
"""
PROGRAM = str(Path(sys.executable).with_name("dataset-tasks"))


def runs_of(server: Server, flow: str, count: int) -> Callable[[], list[dict[str, Any]] | None]:
    """The runs of a flow that were due first, once so many have ended: a run that stays `Late` is none of them."""

    def look() -> list[dict[str, Any]] | None:
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": count}
        runs = query(server.api, "flow_runs/filter", body)
        return runs if len(runs) == count and all(run["state_type"] in ENDED for run in runs) else None

    return look


def state_names(server: Server, run: dict[str, Any]) -> list[str]:
    """The states that a flow run went through."""
    states = json_object(server.api.get("flow_run_states/", params={"flow_run_id": run["id"]}))["items"]
    return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]


def test_a_deployed_schedule_fires_again_and_again_each_run_stands_for_its_window_and_a_publish_starts_what_comes_after(
    server: Server, place: Path, session: Session
) -> None:
    (place / "ticks.yaml").write_text(TICKS)
    (place / "follows.yaml").write_text(FOLLOWS)

    (place / "ticks.py").write_text(TICK)
    follows = [PROGRAM, "deploy", str(place / "follows.yaml"), "--to", "prefect", "--limit", "1"]
    with service("follows", follows, env=server.env, logs=server.logs):
        wait_for(
            "the deployment",
            lambda: server.get("deployments/name/follows/follows"),
            timeout=START_TIMEOUT,
            log=server.logs / "follows.log",
        )
        with service("ticks", [sys.executable, str(place / "ticks.py")], env=server.env, logs=server.logs):
            first, second = wait_for(
                "two runs of the schedule",
                runs_of(server, "ticks", 2),
                timeout=START_TIMEOUT,
                log=server.logs / "ticks.log",
            )
        (followed,) = wait_for(
            "a run after a publish",
            runs_of(server, "follows", 1),
            timeout=START_TIMEOUT,
            log=server.logs / "follows.log",
        )
    for run in (first, second):
        assert (run["state_name"], run["auto_scheduled"], run["run_count"]) == ("Completed", True, 1)
        passed = state_names(server, run)
        assert (passed[0], passed[-1]) == ("Scheduled", "Completed")
        assert not {"Crashed", "Failed", "Cancelled", "AwaitingRetry"} & set(passed)
    assert followed["state_name"] == "Completed"

    due = [datetime.fromisoformat(run["expected_start_time"]) for run in (first, second)]
    assert due[1] - due[0] == timedelta(seconds=20), "no tick was passed over"
    made = {one.origin["run_id"]: one for one in session.catalog.versions(project="lab", name="raw")}
    windows = [datetime.fromisoformat(str(made[run["id"]].metadata["until"])) for run in (first, second)]
    assert windows == [instant.replace(second=0, microsecond=0) for instant in due], "each stands for its minute"
    assert [made[run["id"]].version for run in (first, second)] == ["1.0.0", "1.0.1"]
    (only,) = session.catalog.versions(project="lab", name="same")
    assert only.origin["run_id"] == first["id"]
    assert server.task_runs(first["id"], 3)["same.build"] == "Completed"
    assert server.task_runs(second["id"], 3)["same.build"] == "Unchanged"

    parents = session.catalog.resolve("lab/copy@published").parents
    assert parents[0] in {version.id for version in made.values()}
    log = (server.logs / "server.log").read_text()
    assert not re.findall(r".*ERROR.*docket.*schedule_.*|.*bulk_dml.*", log)
    assert "flow_from_spec" in (place / "follows_flow.py").read_text()


def test_a_worker_of_a_pool_runs_what_was_deployed_to_it(server: Server, place: Path, session: Session) -> None:
    def call(*command: str) -> str:
        done = subprocess.run(
            command, env=server.env, capture_output=True, text=True, check=False, timeout=START_TIMEOUT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prefect = [sys.executable, "-m", "prefect"]
    call(*prefect, "work-pool", "create", "here", "--type", "process")
    (place / "code.py").write_text("ours = 1\n")
    command = ("deploy", str(place / "spec.yaml"), "--to", "prefect", "--work-pool", "here", "--param", "text=hi")
    told = json.loads(call(PROGRAM, *command, "--name", "pooled", "--json"))
    assert (told["flow"], told["deployment"], told["work_pool"]) == ("lab", "pooled", "here")
    run = server.trigger("lab/pooled")
    call(*prefect, "worker", "start", "--pool", "here", "--run-once")
    assert server.ended(run)["state_name"] == "Completed"
    assert versions(session) == ["raw@1.0.0 completed", "shout@1.0.0 published"]
    assert server.flow_run(run)["parameters"] == {"text": "hi"}


def test_a_deployment_that_can_not_be_is_refused_with_what_to_do(place: Path, server: Server) -> None:
    spec = str(place / "spec.yaml")
    for arguments, said in (
        (("--to", "airflow"), "compile SPEC --to airflow"),
        (("--to", "prefect", "--param", "txt=a"), "no parameter 'txt'"),
    ):
        done = subprocess.run(
            [PROGRAM, "deploy", spec, *arguments], env=server.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert said in done.stderr
