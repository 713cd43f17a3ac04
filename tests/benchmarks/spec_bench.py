"""CPU seconds to compile and draw specs of many datasets: `python tests/benchmarks/spec_bench.py [count ...]`.

The target is 0.5 s for 1,000 datasets, imports included.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """Prints a line for each count; each is measured in a fresh process, the best of three."""
    counts = [int(word) for word in sys.argv[1:]] or [10, 1_000, 10_000]
    print(f"{'datasets':>9} {'import s':>9} {'compile s':>10} {'as JSON s':>10} {'steps':>7}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.yaml"
        for count in counts:
            path.write_text(spec(count))
            runs = []
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True
                )
                runs.append([float(word) for word in done.stdout.split()])
            imported, compiled, explained, steps = min(runs, key=lambda run: run[1])
            print(f"{count:>9} {imported:>9.3f} {compiled:>10.3f} {explained:>10.3f} {steps:>7.0f}")


if __name__ == "__main__":
    began = time.time()
    main()
    print(f"took {time.time() - began:.1f} s in all")
