"""The pages that tell a story are followed from top to bottom, and what they show is what comes.

A block whose first line is `# file: name` is written to that file. In a `console` block, lines after `$ ` are run by bash, and
the lines below must be what they print; `…` stands for anything, also for several lines when it stands alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.running import Services

DOCS = Path(__file__).resolve().parents[2] / "docs"
STORIES = (
    "tutorial.md",
    "command-line.md",
    "catalog.md",
    *sorted(f"cookbook/{page.name}" for page in (DOCS / "cookbook").glob("*.md")),
    *sorted(f"operations/{page.name}" for page in (DOCS / "operations").glob("*.md")),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, the line of the page it begins in."""

    language: str
    text: str
    line: int


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def _commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it shall print."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _pattern(expected: str) -> str:
    lines = [".*" if line == "…" else re.escape(line).replace("…", "[^\n]*") for line in expected.splitlines()]
    return "\n".join(lines)


@pytest.mark.parametrize("name", STORIES)
def test_the_page_can_be_followed(name: str, tmp_path: Path, services: Services) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if "boto3" in (DOCS / name).read_text(
        encoding="utf-8"
    ):  # the reader has a bucket; here it is in a server of our own
        env |= {
            "AWS_ENDPOINT_URL": services.url("moto"), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
    followed = 0
    for block in _blocks(DOCS / name):
        head, _, rest = block.text.partition("\n")
        if head.startswith("# file: "):
            (tmp_path / head.removeprefix("# file: ")).write_text(rest)
        elif block.language == "console":
            for command, expected in _commands(block.text):
                done = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
                )
                printed = "\n".join(line.rstrip() for line in done.stdout.splitlines())
                where = f"{name}:{block.line}: $ {command}\n{printed}\n{done.stderr}"
                assert re.fullmatch(_pattern(expected), printed, re.DOTALL), where
                followed += 1
    assert followed > 0


@pytest.mark.airflow
@pytest.mark.prefect
def test_the_spec_of_the_tutorial_becomes_a_dag_and_a_flow(tmp_path: Path) -> None:
    spec = tmp_path / "shop.yaml"
    made = []
    for block in _blocks(DOCS / "tutorial.md"):
        head, _, rest = block.text.partition("\n")
        if head in {"# file: shop.yaml", "# file: totals.schema.yaml"}:
            (tmp_path / head.removeprefix("# file: ")).write_text(rest)
        elif "/srv/pipelines/shop.yaml" in block.text:
            names: dict[str, object] = {}
            exec(block.text.replace("/srv/pipelines/shop.yaml", str(spec)), names)  # our own page
            made.append({kind.__name__ for kind in type(names["shop"]).__mro__})
    assert ["DAG" in made[0], "Flow" in made[1], len(made)] == [True, True, 2]


def test_a_page_that_shows_something_else_would_be_seen() -> None:
    assert re.fullmatch(_pattern("made …\n…\nend\n"), "made 3\na\nb\nend", re.DOTALL)
    assert not re.fullmatch(_pattern("made …\nend\n"), "made 3\nother", re.DOTALL)
