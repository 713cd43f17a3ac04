"""Up to an object store and down again: this project beside rclone, the AWS command line and obstore, in one run.

    python tests/benchmarks/store_bench.py [--server rgw] [--small] [--data large,small] [--repeat 3] [--tools NAMES] [--keep]

All speak to the same server on this machine, over the same cores: a real Ceph RGW, or `moto`. What is sent can't be packed
smaller. Each step is a process of its own, starts included; the repetitions are interleaved, figures are medians. `up` of ours
is create, add, upload and finalize; `down` is a verified copy. obstore sends files as they are, 16 at once. Tools that are not
there are left out: `rclone` is on the PATH (Debian has it), `aws` comes with `pip install awscli`.
With --keep the figures replace those of docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from results import Results, Table

from tests.services.servers import ROOT, program

BUCKET = "bench"
#: Name of the data to number of files and their size in bytes.
SIZES = {"large": (16, 64 << 20), "small": (20_000, 4 << 10)}
LITTLE = {"large": (4, 16 << 20), "small": (1000, 4 << 10)}
OURS = "dataset-tasks"

OURS_UP = """
import sys
from dataset_tasks import Dataset
made = Dataset.create("bench", "bench")
made.add_files(sys.argv[1])
made.upload(show_progress=False)
made.finalize()
print(made.id)
"""
OURS_DOWN = """
import sys
from dataset_tasks import Dataset
Dataset(sys.argv[1]).get_mutable_local_copy(sys.argv[2])
"""
OBSTORE_UP = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import obstore
from obstore.store import S3Store
store = S3Store(sys.argv[3], endpoint=sys.argv[4], virtual_hosted_style_request=False, client_options={"allow_http": True})
source = Path(sys.argv[1])
def send(path):
    obstore.put(store, f"{sys.argv[2]}/{path.relative_to(source)}", path)
with ThreadPoolExecutor(16) as pool:
    list(pool.map(send, [path for path in source.rglob("*") if path.is_file()]))
"""
OBSTORE_DOWN = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import obstore
from obstore.store import S3Store
store = S3Store(sys.argv[3], endpoint=sys.argv[4], virtual_hosted_style_request=False, client_options={"allow_http": True})
target = Path(sys.argv[1])
def bring(key):
    path = target / key.split("/", 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for piece in obstore.get(store, key).stream():
            file.write(piece)
keys = [found["path"] for page in obstore.list(store, sys.argv[2]) for found in page]
with ThreadPoolExecutor(16) as pool:
    list(pool.map(bring, keys))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the wall, CPU seconds, peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


class FailedError(RuntimeError):
    """A tool ended with an error, or brought back something else."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works: the server's URL, the source, a new target, the prefix in the bucket and our home."""

    endpoint: str
    source: Path
    target: Path
    prefix: str
    home: Path


#: Makes the command of a step; may read what the step before printed.
Step: TypeAlias = Callable[[Place, str], list[str]]


def _rclone(*what: str) -> list[str]:
    return ["rclone", "--config", "/dev/null", "--transfers", "16", "--checkers", "16", "copy", *what]


def _remote(place: Place) -> str:
    return f":s3,provider=Ceph,env_auth=true,endpoint='{place.endpoint}':{BUCKET}/{place.prefix}"


def _aws(place: Place, *what: str) -> list[str]:
    quiet = ["s3", "cp", "--recursive", "--only-show-errors", *what]
    return [str(program("aws")), "--endpoint-url", place.endpoint, *quiet]


def _python(code: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


TOOLS: dict[str, tuple[Step, Step]] = {
    OURS: (
        lambda place, _said: _python(OURS_UP, place.source),
        lambda place, said: _python(OURS_DOWN, said, place.target),
    ),
    "rclone": (
        lambda place, _said: _rclone(str(place.source), _remote(place)),
        lambda place, _said: _rclone(_remote(place), str(place.target)),
    ),
    "aws": (
        lambda place, _said: _aws(place, str(place.source), f"s3://{BUCKET}/{place.prefix}"),
        lambda place, _said: _aws(place, f"s3://{BUCKET}/{place.prefix}", str(place.target)),
    ),
    "obstore": (
        lambda place, _said: _python(OBSTORE_UP, place.source, place.prefix, BUCKET, place.endpoint),
        lambda place, _said: _python(OBSTORE_DOWN, place.target, place.prefix, BUCKET, place.endpoint),
    ),
}


def main() -> None:
    """Measures and prints; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["rgw", "moto"], default="rgw")
    parser.add_argument("--small", action="store_true", help="a hundredth of the data, to see that it works")
    parser.add_argument("--data", default=",".join(SIZES), help="which of `large` and `small`")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    there = {OURS: True, "obstore": True, "rclone": program("rclone"), "aws": program("aws")}
    tools = [name for name in TOOLS if name in given.tools.split(",") and there[name]]
    sizes = {name: LITTLE[name] if given.small else SIZES[name] for name in given.data.split(",")}
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        base = Path(folder)
        for name, (count, size) in sizes.items():
            make(base / name, count, size)
        found: dict[tuple[str, str, str], list[Cost]] = {}
        failed: dict[str, str] = {}
        for turn in range(given.repeat):
            for name in sizes:
                with server(given.server, base) as endpoint:  # a new one each time: it keeps all in memory
                    for tool in (each for each in (tools if turn % 2 else reversed(tools)) if each not in failed):
                        try:
                            for step, cost in measure(tool, endpoint, base, name, turn):
                                found.setdefault((name, step, tool), []).append(cost)
                        except FailedError as error:  # the others go on; what is said of this one stands in the text
                            print(error, file=sys.stderr)
                            failed[tool] = str(error)
    table = tabulate(found, sizes, [tool for tool in tools if tool not in failed])
    print(f"\n{table.caption}\n")
    for row in [table.columns, *table.rows]:
        print("  ".join(str(cell).ljust(14) for cell in row))
    if given.keep:
        Results(
            name="stores",
            order=60,
            title="Object stores",
            text="Up to a real Ceph RGW on the same machine and down again, beside tools that copy files as they are. Ours "
            "hashes every file before, packs small ones together, and verifies every file after. "
            f"{given.repeat} repetition(s); load of the machine when it began: {load:.1f}."
            + "".join(f" Without figures: {why}." for why in failed.values()),
            command=" ".join(["python tests/benchmarks/store_bench.py", *sys.argv[1:]]),
            tables=[table],
        ).keep()


def make(folder: Path, count: int, size: int) -> None:
    """Files of noise, 500 in a folder."""
    noise = random.Random(count)
    for number in range(count):
        place = folder / f"{number // 500:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.bin").write_bytes(noise.randbytes(size))


@contextmanager
def server(name: str, base: Path) -> Iterator[str]:
    """A server for this run, with a bucket; gives its URL."""
    answer = base / "server.url"
    answer.unlink(missing_ok=True)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:  # ends with us, however that happens
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.services.keeper", name, str(answer), str(owner.pid)], cwd=ROOT
        )
        try:
            while not answer.exists():
                time.sleep(0.2)
            url = answer.read_text()
            os.environ.update(
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",
                AWS_DEFAULT_REGION="us-east-1",
                AWS_REGION="us-east-1",
            )
            os.environ.pop("AWS_CA_BUNDLE", None)  # rclone of Debian ends at once where it is set
            import boto3

            boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
            yield url
        finally:
            owner.kill()
            keeper.wait()


def measure(tool: str, endpoint: str, base: Path, data: str, turn: int) -> Iterator[tuple[str, Cost]]:
    """Runs both steps of a tool, each as a process, and looks whether all came back."""
    place = Place(endpoint, base / data, base / "target", f"{tool}-{data}-{turn}", base / "home")
    os.environ.update(
        DATASET_TASKS_HOME=str(place.home), DATASET_TASKS_STORE_URL=f"s3://{BUCKET}/ours?endpoint={endpoint}&style=path"
    )
    said = ""
    try:
        for step, make_command in zip(("up", "down"), TOOLS[tool], strict=True):
            command = make_command(place, said)
            begun = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            said = process.stdout.read().strip()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - begun
            if process.returncode:
                raise FailedError(f"{tool} {step} {data} ended with {process.returncode}")
            print(f"{data:6} {step:5} {tool:14} {wall:7.2f} s", flush=True)
            yield step, Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
        done = subprocess.run(["diff", "-rq", place.source, place.target], capture_output=True, check=False)
        if done.returncode:
            raise FailedError(f"{tool} {data}: what came back differs: {done.stdout[:500]!r}")
    finally:
        for folder in (place.target, place.home):
            shutil.rmtree(folder, ignore_errors=True)


def tabulate(
    found: dict[tuple[str, str, str], list[Cost]], sizes: dict[str, tuple[int, int]], tools: list[str]
) -> Table:
    """Medians, and how many times as long as ours the best of the others took."""
    rows = []
    for name, (count, size) in sizes.items():
        for step in ("up", "down"):
            walls = {tool: statistics.median(cost.wall for cost in found[name, step, tool]) for tool in tools}
            for tool in tools:
                costs = found[name, step, tool]
                rows.append(
                    [
                        f"{count} x {size >> 10} KiB",
                        step,
                        tool,
                        round(walls[tool], 2),
                        round(walls[tool] / walls[OURS], 2) if OURS in walls else None,
                        round(statistics.median(cost.cpu for cost in costs), 2),
                        round(max(cost.memory for cost in costs)),
                    ]
                )
    return Table(
        "Wall and CPU seconds (medians), and peak memory (MiB) of the process; `x ours` is the wall time over ours.",
        ("files", "step", "tool", "wall s", "x ours", "CPU s", "MiB"),
        rows,
    )


if __name__ == "__main__":
    main()
