"""What a step costs in Prefect beside a plain Prefect task: `python tests/benchmarks/prefect_bench.py [count] [--keep]`.

A real server of its own; CPU of the client is this process's, CPU of the server is read from /proc once the server has
come to rest after each kind of run. Times of the wall depend on what else the machine does, so none are shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

REST_SECONDS = 2.0
TICK = os.sysconf("SC_CLK_TCK")


def server_seconds(pid: int) -> float:
    """CPU seconds of a process group."""
    return sum(cpu for cpu, _ in _processes(pid))


def waited_seconds(pid: int) -> float:
    """Seconds that threads of a process group were ready to run and had no CPU."""
    total = 0
    for _, folder in _processes(pid):
        for file in folder.glob("task/*/schedstat"):
            with suppress(OSError):
                total += int(file.read_text().split()[1])
    return total / 1e9


def _processes(group: int) -> Iterator[tuple[float, Path]]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            yield (int(fields[11]) + int(fields[12])) / TICK, entry.parent


def at_rest(pid: int) -> float:
    """Waits until the server has next to nothing to do, and gives its CPU seconds. One that gets no CPU is not at rest."""
    before = server_seconds(pid), waited_seconds(pid)
    while True:
        time.sleep(REST_SECONDS)
        now = server_seconds(pid), waited_seconds(pid)
        if now[0] - before[0] < 0.1 * REST_SECONDS and now[1] - before[1] < 0.5 * REST_SECONDS:
            return now[0]
        before = now


@contextmanager
def server(home: Path) -> Iterator[int]:
    """A Prefect server; gives its process id, and names it in the environment."""
    from example_flows.demo.prefect import environment
    from example_flows.demo.services import START_TIMEOUT, client, free_port, get, service, wait_for

    port = free_port()
    env = environment(home, port)
    os.environ.update(env)
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with service("server", command, env=env, logs=home) as process, client(f"http://127.0.0.1:{port}/api/") as api:
        wait_for("Prefect server", lambda: get(api, "health"), timeout=START_TIMEOUT, log=home / "server.log")
        yield process.pid


def kinds(count: int) -> dict[str, tuple[int, Callable[[], Any]]]:
    """What is measured: how many steps each is, and the flow."""
    from prefect import flow, task

    from prefect_blocks import DatasetCatalog, build_dataset, create_dataset, dataset_task, flow_from_spec

    catalog = DatasetCatalog(embedded=True)
    session = catalog.session()
    names = iter(range(10**9))

    @task
    def plain(number: int) -> int:
        return number

    @flow
    def plain_tasks() -> None:
        for i in range(count):
            plain(i)

    @flow
    def drafts() -> None:
        for _ in range(count):
            create_dataset(f"draft{next(names)}", "bench", catalog=catalog)

    @dataset_task("bench/same")
    def same(inputs: Any, output: Path) -> None:
        (output / "a").write_text("1")

    @flow
    def unchanged() -> None:
        for i in range(count):
            same(catalog=catalog, step=f"s{i}")

    @flow
    def versions() -> None:
        for _ in range(count):
            work = next(names)
            stages = [{"id": "x.create", "request": {"verb": "create", "name": f"v{work}", "project": "bench"}}]
            stages += [{"id": "x.finalize", "request": {"verb": "finalize", "ref": "step:x.create"}}]
            build_dataset(stages, catalog=catalog)

    def no_prefect() -> None:
        from dataset_tasks.ops.requests import Create

        for _ in range(count):
            session.run(Create(name=f"bare{next(names)}", project="bench"))

    @flow
    def in_one() -> None:
        folder = Path(session.settings.home) / "parts"
        adds = []
        for i in range(count):
            part = folder / f"p{i}"
            part.mkdir(parents=True, exist_ok=True)
            (part / "a").write_text(str(i))
            adds.append(
                {
                    "id": f"x.add.{i}",
                    "request": {"verb": "add", "ref": "step:x.create", "path": str(part), "dataset_path": f"p{i}"},
                }
            )
        create = {"id": "x.create", "request": {"verb": "create", "name": f"parts{next(names)}", "project": "bench"}}
        ends = [
            {"id": f"x.{verb}", "request": {"verb": verb, "ref": "step:x.create"}} for verb in ("upload", "finalize")
        ]
        build_dataset([create, *adds, *ends], catalog=catalog)

    def spec_of_parts(batch: int | None) -> Callable[[], Any]:
        """A spec whose dataset has so many adds, each its own operation."""
        folder = Path(session.settings.home) / "adds"
        for i in range(count):
            (folder / f"p{i}").mkdir(parents=True, exist_ok=True)
            (folder / f"p{i}" / "a").write_text(str(i))
        adds = ", ".join(f"{{path: {folder}/p{i}, dataset_path: p{i}}}" for i in range(count))
        name = f"adds{next(names)}"
        file = folder / f"{name}.yaml"
        file.write_text(
            f"version: 1\nname: {name}\nproject: bench\ndefaults: {{granularity: operation}}\n"
            f"datasets:\n  {name}: {{add: [{adds}]}}\n"
        )
        return flow_from_spec(file, catalog=catalog, batch=batch)

    return {
        "plain Prefect task": (count, plain_tasks),
        "create_dataset": (count, drafts),
        "the same without Prefect": (count, no_prefect),
        "dataset_task, unchanged": (count, unchanged),
        "build_dataset, a new version": (count, versions),
        "an add of a spec, each a task run": (count, spec_of_parts(1)),
        "an add of a spec, in batches of up to 50": (count, spec_of_parts(None)),
        f"{count} adds in one build_dataset": (count, in_one),
    }


def measured(count: int) -> list[tuple[str, int, float, float]]:
    """Kind, steps, and milliseconds of CPU a step: of the client, of the server."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as pid:
        for name, (steps, run) in kinds(count).items():
            if not rows:
                run()  # the first flow of a process starts threads and connections
            before = at_rest(pid)
            begun = time.process_time()
            run()
            client_seconds = time.process_time() - begun
            rows.append((name, steps, client_seconds / steps * 1000, (at_rest(pid) - before) / steps * 1000))
    return rows


def main() -> None:
    """Prints a line a kind."""
    words = [word for word in sys.argv[1:] if word != "--keep"]
    rows = measured(int(words[0]) if words else 40)
    print(f"{'kind':42} {'steps':>6} {'client ms':>10} {'server ms':>10}")
    for name, steps, client_ms, server_ms in rows:
        print(f"{name:42} {steps:>6} {client_ms:>10.1f} {server_ms:>10.1f}")
    if "--keep" in sys.argv:
        from results import Results, Table

        columns = ["step", "steps", "client, ms of CPU a step", "server, ms of CPU a step"]
        cells = [[name, steps, round(client_ms, 1), round(server_ms, 1)] for name, steps, client_ms, server_ms in rows]
        Results(
            name="prefect",
            order=60,
            title="Steps in Prefect",
            text="What a step costs beside a plain Prefect task, on a real server with SQLite.",
            command="python tests/benchmarks/prefect_bench.py --keep",
            tables=[Table("CPU time a step", columns, cells)],
        ).keep()


if __name__ == "__main__":
    main()
