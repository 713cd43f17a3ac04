"""The code of docs/prefect.md runs, block after block, as a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataset_tasks.session import open_session
from tests.e2e.prefect.conftest import Api, versions

PAGE = Path(__file__).resolve().parents[3] / "docs" / "prefect.md"


def test_every_block_of_the_page_runs(api: Api, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)):
        file = tmp_path / f"block{number}.py"  # the source of functions is looked up in their file
        file.write_text(block)
        exec(compile(block, str(file), "exec"), names)
    with open_session(home=home) as session:
        assert versions(session) == [
            "orders@1.0.0 published",
            "features@1.0.0 published",
            "audited@1.0.0 published",
            "decorated@1.0.0 completed",
            "by_hand@1.0.0 published",
            "raw@1.0.0 completed",
            "flat@1.0.0 completed",
        ]
