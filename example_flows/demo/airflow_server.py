"""A real Airflow of its own: API server, scheduler, DAG processor, on SQLite unless told, in a home that is thrown away.

The demo and the tests of the provider start it, ask it over REST, and stop it whole.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from example_flows.demo.services import (
    START_TIMEOUT,
    JsonObject,
    ServiceError,
    client,
    free_port,
    get,
    json_object,
    service,
    wait_for,
)

AIRFLOW = (sys.executable, "-m", "airflow")
DAEMONS = ("api-server", "scheduler", "dag-processor")
ENDED = ("success", "failed")
#: Seconds: until a DAG file is parsed, until a run has ended.
PARSE_TIMEOUT, RUN_TIMEOUT = 120.0, 600.0
#: Its database, and the seconds that each of the servers waits for the others to let go of it.
DATABASE, LOCK_TIMEOUT = "airflow.db", 30


class AirflowServer:
    """The servers, up from `with` until its end. Tasks run in processes of the scheduler (LocalExecutor).

    Args:
        home: Folder for everything Airflow writes; its database, logs and the catalog of the tasks.
        dags: Folder of the DAG files.
        settings: Airflow settings as `SECTION__NAME`, over the ones below.
        environment: Further variables of the servers and tasks.
        users: Who there is, name to role (`admin`, `viewer`); each has the name as password, and the first one is
            asked as. Empty: everybody is an admin.
        triggerer: Whether one runs, for what waits outside of a worker.

    >>> with AirflowServer(home, dags) as airflow:  # doctest: +SKIP
    ...     airflow.unpause("flights")
    ...     airflow.trigger("flights", "first")
    ...     run = airflow.wait_for_run("flights", "first")
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        triggerer: bool = False,
    ) -> None:
        self.home = home
        self.port = free_port()
        self.users = dict(users or {})
        self.daemons = (*DAEMONS, "triggerer") if triggerer else DAEMONS
        self.env = _environment(home, dags, self.port, self._users() | dict(settings or {})) | dict(environment or {})
        self._stack = ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.rest = client(f"http://127.0.0.1:{self.port}/")

    def __enter__(self) -> Self:
        """Makes the database, starts the servers and logs in.

        Raises:
            ServiceError: One of these did not work; the message ends with the log.
        """
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        with closing(sqlite3.connect(self.home / DATABASE)) as database:
            # Readers and the one writer leave each other alone; the file itself remembers that.
            database.execute("PRAGMA journal_mode = WAL")
        migrate = subprocess.run([*AIRFLOW, "db", "migrate"], env=self.env, capture_output=True, text=True, check=False)
        if migrate.returncode:
            raise ServiceError(f"airflow db migrate failed\n{migrate.stdout}{migrate.stderr}")
        self._stack.enter_context(self.rest)
        for daemon in self.daemons:
            self.start(daemon)
        log = self.home / "api-server.log"
        wait_for("Airflow", lambda: get(self.rest, "api/v2/version"), timeout=START_TIMEOUT, log=log)
        self.rest.headers["Authorization"] = f"Bearer {self.token(next(iter(self.users), ''))}"

    def start(self, daemon: str) -> None:
        """Starts one of the servers; its log is a new file when it ran before."""
        logs = self.home / "again" if daemon in self._processes else self.home
        logs.mkdir(exist_ok=True)
        running = service(daemon, [*AIRFLOW, daemon], env=self.env, logs=logs)
        self._processes[daemon] = self._stack.enter_context(running)

    def kill(self, daemon: str) -> None:
        """Ends the process of one of the servers as a crash would, and waits until it is gone."""
        process = self._processes[daemon]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _users(self) -> dict[str, str]:
        """Settings that make the users; their passwords are in a file, as Airflow would write it."""
        if not self.users:
            return {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({name: name for name in self.users}))
        return {
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in self.users.items()),
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }

    def token(self, user: str = "") -> str:
        """A token of a user; of the one there is where nobody has a name."""
        if not user:
            return str(json_object(self.rest.get("auth/token"))["access_token"])
        answer = self.rest.post("auth/token", json={"username": user, "password": user})
        return str(json_object(answer)["access_token"])

    def as_user(self, user: str) -> httpx.Client:
        """A client that asks as somebody; closed with the server."""
        other = self._stack.enter_context(client(f"http://127.0.0.1:{self.port}/"))
        other.headers["Authorization"] = f"Bearer {self.token(user)}"
        return other

    def unpause(self, *dags: str) -> None:
        """Waits until the DAGs are parsed, and switches them on.

        Raises:
            ServiceError: One of them is not there in time.
        """
        log = self.home / "dag-processor.log"
        for dag in dags:
            wait_for(f"DAG {dag}", lambda: get(self.rest, f"api/v2/dags/{dag}"), timeout=PARSE_TIMEOUT, log=log)  # noqa: B023  # called at once
            json_object(self.rest.patch(f"api/v2/dags/{dag}", json={"is_paused": False}))

    def parse_again(self, dag: str) -> None:
        """Has the file of a DAG read now, and waits until it was."""
        before = json_object(self.rest.get(f"api/v2/dags/{dag}"))
        self.rest.put(f"api/v2/parseDagFile/{before['file_token']}").raise_for_status()

        def done() -> bool | None:
            now = json_object(self.rest.get(f"api/v2/dags/{dag}"))
            return True if now["last_parsed_time"] != before["last_parsed_time"] else None

        wait_for(f"DAG {dag} to be read", done, timeout=PARSE_TIMEOUT, log=self.home / "dag-processor.log")

    def trigger(
        self, dag: str, run: str, *, conf: Mapping[str, object] | None = None, logical_date: str | None = None
    ) -> JsonObject:
        """Starts a run by hand; without a logical date (ISO 8601) it has no data interval."""
        body = {"dag_run_id": run, "logical_date": logical_date, "conf": dict(conf or {})}
        return json_object(self.rest.post(f"api/v2/dags/{dag}/dagRuns", json=body))

    def run(self, dag: str, run: str) -> JsonObject:
        """A run as it stands."""
        return json_object(self.rest.get(f"api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}"))

    def backfill(self, dag: str, since: str, until: str, **options: object) -> None:
        """Has Airflow run the windows that begin between two moments (ISO 8601), both included, and waits for them.

        Args:
            dag: Its id.
            since: First moment.
            until: Last moment.
            options: Of Airflow's REST call, such as `reprocess_behavior`.
        """
        body = {"dag_id": dag, "from_date": since, "to_date": until, **options}
        made = json_object(self.rest.post("api/v2/backfills", json=body))

        def done() -> bool | None:
            under_way = [run for run in self.runs(dag) if run["run_type"] == "backfill" and run["state"] not in ENDED]
            return None if under_way else True

        wait_for(f"backfill of {dag}", done, timeout=RUN_TIMEOUT, every=1.0, log=self.home / "scheduler.log")

        def over() -> bool | None:
            if json_object(self.rest.get(f"api/v2/backfills/{made['id']}"))["completed_at"]:
                return True
            # Airflow itself notes it twice a minute, and begins no other before.
            self.rest.put(f"api/v2/backfills/{made['id']}/cancel")
            return None

        wait_for(f"backfill of {dag} to be over", over, timeout=RUN_TIMEOUT, every=1.0)

    def runs(self, dag: str) -> list[JsonObject]:
        """All runs of a DAG, oldest first."""
        found = json_object(self.rest.get(f"api/v2/dags/{dag}/dagRuns", params={"order_by": "run_after"}))
        return list(found["dag_runs"])

    def tasks(self, dag: str, run: str) -> list[JsonObject]:
        """The task instances of a run, in the order they started."""
        path = f"api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances"
        found = json_object(self.rest.get(path, params={"limit": 200}))["task_instances"]
        return sorted(found, key=lambda task: (task["start_date"] or "~", task["task_id"], task["map_index"]))

    def states(self, dag: str, run: str) -> dict[str, str | None]:
        """The states of a run's tasks by task id; of a mapped one as `id[index]`."""
        return {
            task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else ""): task["state"]
            for task in self.tasks(dag, run)
        }

    def wait_for_run(
        self,
        dag: str,
        run: str,
        *,
        timeout: float = RUN_TIMEOUT,
        look: Callable[[list[JsonObject]], None] | None = None,
    ) -> JsonObject:
        """The run once it has ended; until then `look` gets its task instances once a second.

        Raises:
            ServiceError: It has not ended in time.
        """

        def ended() -> JsonObject | None:
            if look is not None:
                look(self.tasks(dag, run))
            found = self.run(dag, run)
            return found if found["state"] in ENDED else None

        return wait_for(f"run {run} of {dag}", ended, timeout=timeout, every=1.0, log=self.home / "scheduler.log")

    def wait_until_parked(self, dag: str, run: str, task: str, *, timeout: float = RUN_TIMEOUT) -> None:
        """Waits until a task has left its worker to wait elsewhere, and the scheduler has taken note of that.

        What ends the wait before the scheduler has heard from the worker makes Airflow 3.3.2 fail the task.

        Raises:
            ServiceError: It is not so in time.
        """
        log = self.home / "scheduler.log"

        def parked() -> bool | None:
            waits = self.states(dag, run).get(task) in ("deferred", "awaiting_input")
            told = (
                line
                for line in log.read_text(errors="replace").splitlines()
                if "Received executor event" in line
                and f"'{dag}'" in line
                and f"'{task}'" in line
                and f"'{run}'" in line
            )
            return True if waits and any(told) else None

        wait_for(f"{task} of {dag} to wait", parked, timeout=timeout, log=log)

    def xcom(
        self, dag: str, run: str, task: str, *, key: str = "return_value", map_index: int = -1
    ) -> Any:  # Any: JSON
        """What a task left under a key."""
        path = f"api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}/xcomEntries/{key}"
        found = json_object(
            self.rest.get(path, params={"map_index": map_index, "deserialize": False, "stringify": False})
        )
        return found["value"]

    def asset_events(self, uri: str) -> list[JsonObject]:
        """The events of an asset, oldest first."""
        assets = json_object(self.rest.get("api/v2/assets", params={"uri_pattern": uri, "only_active": False}))[
            "assets"
        ]
        ids = [asset["id"] for asset in assets if asset["uri"] == uri]
        if not ids:
            return []
        # Airflow 3.3.2 answers 500 while a run that the event triggered has not started: its start is not optional.
        path = f"api/v2/assets/events?asset_id={ids[0]}&order_by=timestamp"
        found = wait_for(f"events of {uri}", lambda: get(self.rest, path), timeout=60, log=self.home / "api-server.log")
        return list(found["asset_events"])

    def clear(self, dag: str, run: str, *tasks: str) -> None:
        """Clears tasks of a run that has ended, so that they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": list(tasks),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        json_object(self.rest.post(f"api/v2/dags/{dag}/clearTaskInstances", json=body))

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of each task's log, for the reader of a failure: the home will be gone."""
        logs = sorted((self.home / "logs").rglob("attempt=*.log"))
        return "\n".join(
            line
            for log in logs
            for line in (
                f"--- {log.relative_to(self.home)}", *log.read_text(errors="replace").splitlines()[-lines:],
            )
        )  # fmt: skip


def _environment(home: Path, dags: Path, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of all daemons: homes of their own, one secret, free ports, quick to see new files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "DATASET_TASKS_"))}
    own = {
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / DATABASE}?timeout={LOCK_TIMEOUT}",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    return {
        **kept,
        **{f"AIRFLOW__{name}": value for name, value in (own | dict(settings)).items()},
        "AIRFLOW_HOME": str(home),
        "DATASET_TASKS_HOME": str(home / "dataset_tasks"),
        "DATASET_TASKS_CATALOG": "embedded",
    }
