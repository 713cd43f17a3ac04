"""What a parse of a DAG file costs Airflow: a spec of ours beside a DAG written by hand and one of dag-factory.

    python tests/benchmarks/airflow_parse_bench.py [--steps 10 100 1000] [--repeat N] [--no-peer] [--keep]

All three DAGs of a size have the same tasks, in the same groups, with the same edges, retries and descriptions: of two tasks
a dataset, build and publish, each dataset made from two before it. By hand and with dag-factory they are bash tasks, which
are the cheapest that do something. Figures are CPU milliseconds of `DagBag` on the one file, modules loaded before, as in
Airflow's own processes; the best of the repeats, the three taking turns. `serialize` is what the DAG processor pays on top.
The other table is of processes that load each file once, which is what Airflow's own do: there, what a way imports counts
too. As in Airflow's, bytecode is there and what was loaded before is out of the garbage collector's sight. "spec of a bundle" is
what `SpecDagBundle` makes of it: it has the DAG processor import what the files need, before that forks a process for each. `--no-peer` leaves out dag-factory, which is installed into a folder that is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from results import Cell, Results, Table, markdown

PEER = "dag-factory==1.1.0"
HEAD = """from datetime import datetime, timedelta
from airflow.sdk import DAG, TaskGroup
from airflow.providers.standard.operators.bash import BashOperator
with DAG("hand_{n}", schedule=None, description="Datasets", max_active_runs=1, doc_md="Written by hand."):
"""
GROUP = """    with TaskGroup("d{k}", tooltip="Dataset {k}"):
        b{k} = BashOperator(task_id="build", bash_command="build {k}", retries=2, retry_delay=timedelta(seconds=30))
        p{k} = BashOperator(task_id="publish", bash_command="publish {k}", retries=2, retry_delay=timedelta(seconds=30))
        b{k} >> p{k}
"""


def above(number: int) -> list[int]:
    """The datasets that one is made from."""
    return sorted({number // 2, number - 1} - {number}) if number else []


def by_hand(folder: Path, steps: int) -> Path:
    """A DAG written out in Python."""
    parts = [HEAD.format(n=steps)]
    for number in range(steps // 2):
        parts.append(GROUP.format(k=number))
        parts += [f"    p{source} >> b{number}\n" for source in above(number)]
    path = folder / f"hand_{steps}.py"
    path.write_text("".join(parts))
    return path


def of_spec(folder: Path, steps: int) -> Path:
    """A spec, and the DAG file that loads it."""
    lines = ["version: 1", f"name: spec_{steps}", "project: bench", "description: Datasets"]
    lines += ["defaults: {retries: 2, retry_delay: 30s}", "datasets:"]
    for number in range(steps // 2):
        lines += [f"  d{number}:", f"    description: Dataset {number}", "    publish: true"]
        inputs = ", ".join(f"d{source}" for source in above(number))
        made = f'call: "bench.code:make", with: {{number: {number}}}'
        lines += [f"    inputs: [{inputs}]"] if inputs else []
        lines += [f"    transform: {{{made}}}"]
    (folder / f"spec_{steps}.yaml").write_text("\n".join(lines) + "\n")
    path = folder / f"spec_{steps}.py"
    path.write_text(
        "from airflow_provider.dags import dag_from_spec\n"
        f"dag = dag_from_spec({str(path.with_suffix('.yaml'))!r})  # for airflow\n"
    )
    return path


def of_peer(folder: Path, steps: int) -> Path:
    """A file of dag-factory, and the DAG file that loads it."""
    lines = [
        f"peer_{steps}:",
        "  default_args: {owner: bench, start_date: 2024-01-01, retries: 2, retry_delay_sec: 30}",
    ]
    lines += ["  schedule: null", "  description: Datasets", "  task_groups:"]
    lines += [f"    - {{group_name: d{number}, tooltip: Dataset {number}}}" for number in range(steps // 2)]
    lines += ["  tasks:"]
    for number in range(steps // 2):
        for verb in ("build", "publish"):
            waits = [f"d{source}.publish" for source in above(number)] if verb == "build" else [f"d{number}.build"]
            lines += [
                f"    - task_id: {verb}{number}",
                "      operator: airflow.providers.standard.operators.bash.BashOperator",
                f"      bash_command: {verb} {number}",
                f"      task_group_name: d{number}",
                f"      dependencies: [{', '.join(wait.split('.')[1] + wait.split('.')[0][1:] for wait in waits)}]",
            ]
    (folder / f"peer_{steps}.yml").write_text("\n".join(lines) + "\n")
    path = folder / f"peer_{steps}.py"
    path.write_text(
        "from dagfactory import load_yaml_dags\n"
        f"load_yaml_dags(globals_dict=globals(), config_filepath={str(path.with_suffix('.yml'))!r})  # a dag of airflow\n"
    )
    return path


def measured(work: Callable[[], object]) -> float:
    """CPU milliseconds of a piece of work."""
    gc.collect()
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def measure(sizes: list[int], repeat: int, folder: Path, *, peer: bool) -> dict[str, dict[int, tuple[float, float]]]:
    """Parse and serialize of each way and size, in this process."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    ways = {"by hand": by_hand, "spec": of_spec} | ({"dag-factory": of_peer} if peer else {})
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in ways}
    for steps in sizes:
        files = {name: make(folder, steps) for name, make in ways.items()}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(repeat + 1):  # the first loads modules, and does not count
            for name, file in files.items():
                bag: list[DagBag] = []
                parse = measured(lambda file=file, bag=bag: bag.append(DagBag(file, bundle_name="bench")))  # type: ignore[misc]
                assert not bag[0].import_errors, bag[0].import_errors
                (dag,) = bag[0].dags.values()
                assert len(dag.tasks) == steps, (name, len(dag.tasks))
                figures[name].append((parse, measured(lambda dag=dag: DagSerialization.to_dict(dag))))  # type: ignore[misc]
        for name, runs in figures.items():
            found[name][steps] = (min(run[0] for run in runs[1:]), min(run[1] for run in runs[1:]))
    return found


FRESH = """
import gc, importlib, sys, time
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
for name in sys.argv[2:]:
    importlib.import_module(name)
gc.freeze()
started = time.process_time()
bag = DagBag(sys.argv[1], bundle_name="bench")
assert not bag.import_errors, bag.import_errors
DagSerialization.to_dict(next(iter(bag.dags.values())))
print((time.process_time() - started) * 1000)
"""


def fresh(sizes: list[int], ways: Iterable[str], folder: Path) -> dict[str, dict[int, float]]:
    """Parse and serialize in a process of its own, modules of Airflow loaded before, the best of three."""
    files = {"by hand": ("hand",), "spec": ("spec",), "dag-factory": ("peer",)}
    files["spec of a bundle"] = ("spec", "airflow_provider.dags")
    found: dict[str, dict[int, float]] = {way: {} for way in (*ways, "spec of a bundle")}
    env = {name: held for name, held in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = os.pathsep.join(path for path in sys.path if path)
    for steps in sizes:
        runs: dict[str, list[float]] = {way: [] for way in found}
        for _ in range(4):  # the first writes bytecode
            for way, times in runs.items():
                file, *loaded = files[way]
                done = subprocess.run(
                    [sys.executable, "-c", FRESH, str(folder / f"{file}_{steps}.py"), *loaded],
                    env={**env, "PYTHONPATH": paths}, capture_output=True, text=True, check=True,
                )  # fmt: skip
                times.append(float(done.stdout.splitlines()[-1]))
        for way, times in runs.items():
            found[way][steps] = min(times[1:])
    return found


def tables(
    found: dict[str, dict[int, tuple[float, float]]], once: dict[str, dict[int, float]], sizes: list[int]
) -> list[Table]:
    """What was found, for the page."""
    loaded: list[list[Cell]] = []
    alone: list[list[Cell]] = []
    for steps in sizes:
        for way, by_size in found.items():
            parse, serialize = by_size[steps]
            hand = found["by hand"][steps]
            loaded.append([steps, way, parse, parse / hand[0], serialize, (parse + serialize) / sum(hand)])
        alone.append([steps, *(by_size[steps] for by_size in once.values())])
    return [
        Table(
            "Modules loaded before, CPU milliseconds",
            ["tasks", "way", "parse", "times by hand", "serialize", "both, times by hand"],
            loaded,
        ),
        Table("In a new process, parse and serialize, CPU milliseconds", ["tasks", *once], alone),
    ]


def show(found: dict[str, dict[int, tuple[float, float]]], sizes: list[int], repeat: int) -> None:
    """Prints the table."""
    print(f"CPU milliseconds, best of {repeat}: parse (times the one by hand), then serialize")
    print(f"{'':14}" + "".join(f"{f'{steps} steps':>30}" for steps in sizes))
    for name, by_size in found.items():
        cells = []
        for steps in sizes:
            parse, serialize = by_size[steps]
            times = parse / found["by hand"][steps][0]
            cells.append(f"{f'{parse:.1f} ({times:.2f} x) + {serialize:.1f}':>30}")
        print(f"{name:14}" + "".join(cells))


def main() -> None:
    """Makes the files, measures, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="airflow-parse-bench-") as home:
        place = Path(home)
        os.environ["AIRFLOW_HOME"] = str(place / "airflow")  # before the first import of Airflow
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        if options.peer:
            install(place / "peer")
        (place / "dags").mkdir()
        sys.path.insert(0, str(Path(__file__).parents[2]))
        with contextlib.redirect_stdout(sys.stderr):
            found = measure(options.steps, options.repeat, place / "dags", peer=options.peer)
        show(found, options.steps, options.repeat)
        once = fresh(options.steps, found, place / "dags")
    made = tables(found, once, options.steps)
    print(markdown(made[1]))
    if options.keep:
        Results(
            "airflow_parse",
            52,
            "What a parse of a DAG file costs Airflow",
            "A spec beside a DAG of as many bash tasks written by hand and one of dag-factory, with the same groups, edges, "
            "retries and texts; best of several, the three taking turns. The "
            "spec's tasks declare an asset for each dataset besides. In a new process each way imports what it needs; a bundle "
            "of specs has the DAG processor import it once, before it forks.",
            "python tests/benchmarks/airflow_parse_bench.py --keep",
            made,
        ).keep()


def install(target: Path) -> None:
    """Puts dag-factory into a folder of its own: a plug-in in the environment would be loaded by every Airflow in it."""
    tool = ["uv", "pip", "install", "-q", "--no-deps", "--python", sys.executable]
    subprocess.run([*tool, "--target", str(target), PEER], check=True)
    sys.path.append(str(target))


if __name__ == "__main__":
    main()
