"""CPU seconds to compile and draw specs of many datasets.

    python tests/benchmarks/spec_bench.py [count ...] [--keep]

The target is 0.5 s for 1,000 datasets, imports included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from results import Cell, Results, Table, markdown

DATASET = """\
  d{i}:
    parents: [{parent}]
    tags: [a, b]
    inputs: {{labels: nyc/labels@prod}}
    transform: {{call: "m:f", with: {{carrier: AA, n: {i}}}}}
    remove: ["**/tmp/*"]
    check: {{min_files: 1}}
    verify: true
    publish: {{alias: prod}}
"""
MEASURED = """\
import sys, time
begin = time.process_time()
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.explain import explain
imported = time.process_time()
plan = compile_spec(sys.argv[1])
compiled = time.process_time()
explain(plan, "json")
explained = time.process_time()
print(imported - begin, compiled - imported, explained - compiled, len(plan.steps))
"""


def spec(count: int) -> str:
    """A line of datasets, each made from the one before it."""
    datasets = (DATASET.format(i=i, parent=f"d{i - 1}" if i else "nyc/start") for i in range(count))
    return "version: 1\nname: big\nproject: nyc\ndatasets:\n" + "".join(datasets)


def main() -> None:
    """Measures each count in a fresh process, the best of three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=[10, 1_000, 10_000])
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.yaml"
        for count in given.counts:
            path.write_text(spec(count))
            runs = []
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True
                )
                runs.append([float(word) for word in done.stdout.split()])
            imported, compiled, explained, steps = min(runs, key=lambda run: run[1])
            rows.append([count, int(steps), imported, compiled, explained])
    found = Table("CPU seconds", ["datasets", "steps", "imports", "compile", "as JSON"], rows)
    print(markdown(found))
    if given.keep:
        Results(
            "spec",
            50,
            "Specs of many datasets",
            "A line of datasets, each made from the one before it with inputs, a transform, a check and an alias; "
            "each in a process of its own, the best of three. An orchestrator does this at every parse of a file.",
            "python tests/benchmarks/spec_bench.py --keep",
            [found],
        ).keep()


if __name__ == "__main__":
    main()
