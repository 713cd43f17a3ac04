"""`dataset-tasks deploy` on a real server: served with a schedule, started by a publish, run by a worker of a pool."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset_tasks.session import Session
from example_flows.demo.prefect import query
from example_flows.demo.services import START_TIMEOUT, service, wait_for
from tests.e2e.prefect.conftest import Server, versions

TICKS = """
version: 1
name: ticks
project: lab
schedule: {every: 1m}
datasets:
  raw: {add: [{path: data}], metadata: {until: "${run.interval_end}"}, on_unchanged: version, publish: true}
"""
FOLLOWS = """
version: 1
name: follows
project: lab
schedule: {after: [lab/raw]}
datasets:
  copy: {parents: [lab/raw], publish: true}
"""
TICK = """
from pathlib import Path
from prefect_blocks import flow_from_spec
ticks = flow_from_spec(Path(__file__).with_name("ticks.yaml"))
if __name__ == "__main__":
    ticks.serve("ticks", interval=5, limit=1)  # the spec's own minute takes too long for a test
"""
PROGRAM = str(Path(sys.executable).with_name("dataset-tasks"))


def runs_of(server: Server, flow: str, state: str = "COMPLETED") -> list[dict[str, Any]]:
    body = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"state": {"type": {"any_": [state]}}}}
    return query(server.api, "flow_runs/filter", body)


def at_least(count: int, look: Callable[[], list[Any]]) -> Callable[[], list[Any] | None]:
    return lambda: found if len(found := look()) >= count else None


def test_a_served_spec_runs_on_its_schedule_again_and_again_and_a_publish_starts_what_comes_after(
    server: Server, place: Path, session: Session
) -> None:
    (place / "ticks.yaml").write_text(TICKS)
    (place / "ticks.py").write_text(TICK)
    (place / "follows.yaml").write_text(FOLLOWS)
    follows = [PROGRAM, "deploy", str(place / "follows.yaml"), "--to", "prefect", "--limit", "1"]
    with service("follows", follows, env=server.env, logs=server.logs):
        wait_for(
            "the deployment",
            lambda: server.get("deployments/name/follows/follows"),
            timeout=START_TIMEOUT,
            log=server.logs / "follows.log",
        )
        ticks_command = [sys.executable, str(place / "ticks.py")]
        with service("ticks", ticks_command, env=server.env, logs=server.logs):
            ticks = wait_for(
                "two runs of the schedule",
                at_least(2, lambda: runs_of(server, "ticks")),
                timeout=START_TIMEOUT,
                log=server.logs / "ticks.log",
            )
        wait_for(
            "a run after a publish",
            at_least(1, lambda: runs_of(server, "follows")),
            timeout=START_TIMEOUT,
            log=server.logs / "follows.log",
        )
    assert all(run["auto_scheduled"] for run in ticks)
    raw = session.catalog.versions(project="lab", name="raw")
    assert all(":00+00:00" in str(version.metadata["until"]) for version in raw), "each stands for its minute"
    assert session.catalog.resolve("lab/copy@published").parents[0] in {version.id for version in raw}
    log = (server.logs / "server.log").read_text()
    assert not re.findall(r".*ERROR.*docket.*schedule_.*|.*bulk_dml.*", log)
    written = (place / "follows_flow.py").read_text()
    assert "flow_from_spec" in written


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
