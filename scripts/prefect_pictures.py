"""Takes the pictures of docs/prefect.md anew: a real server, a flow, and its pages as Chromium shows them.

apt-get install chromium; pip install playwright
python scripts/prefect_pictures.py [folder]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from example_flows.demo.prefect import environment, query
from example_flows.demo.services import START_TIMEOUT, client, free_port, get, service, wait_for

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE = {"width": 1200, "height": 760}
FLOWS = """
import time
from pathlib import Path
from prefect_blocks import DatasetCatalog, S3Credentials, S3Store, flow_from_spec

HERE = Path(__file__).parent
catalog = DatasetCatalog(embedded=True, home=str(HERE / "home"))
catalog.save("local", overwrite=True)
store = S3Store(bucket="lake", prefix="datasets", region="eu-central-1", credentials=S3Credentials(profile="lake"))
store.save("lake", overwrite=True)
shop = flow_from_spec(HERE / "shop.yaml", catalog="local")
if __name__ == "__main__":
    shop()
    (HERE / "data" / "2026-02.csv").write_text("id,total\\n3,30\\n")
    (HERE / "data" / "2026-01.csv").write_text("id,total\\n1,10\\n2,25\\n")
    shop()
"""
SPEC = """
version: 1
name: shop
project: crm
datasets:
  orders: {sync: {path: data}, check: {min_files: 1, max_change: 1}}
  sums:
    inputs: [orders]
    transform: {call: "shop_code:sums"}
  report: {parents: [orders, sums], publish: {alias: prod}}
"""
CODE = """
def sums(inputs, output):
    lines = [line for file in inputs["orders"].glob("*.csv") for line in file.read_text().splitlines()[1:]]
    (output / "sums.csv").write_text(f"total\\n{sum(int(line.split(',')[1]) for line in lines)}\\n")
"""


def main() -> int:
    """Runs the flow and takes the pictures; returns the exit code."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "flows.py").write_text(FLOWS)
        (home / "shop.yaml").write_text(SPEC)
        (home / "shop_code.py").write_text(CODE)
        (home / "data").mkdir()
        for month in ("2025-11", "2025-12", "2026-01"):
            (home / "data" / f"{month}.csv").write_text("id,total\n1,10\n")
        port = free_port()
        env = environment(home, port)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with service("server", command, env=env, logs=home), client(f"http://127.0.0.1:{port}/api/") as api:
            wait_for("Prefect server", lambda: get(api, "health"), timeout=START_TIMEOUT, log=home / "server.log")
            subprocess.run([sys.executable, str(home / "flows.py")], env=env, check=True)
            run = query(api, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
            body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
            keys = {one["key"]: one["id"] for one in query(api, "artifacts/filter", body)}
            blocks = {one["name"]: one["id"] for one in query(api, "block_documents/filter", {})}
            take(f"http://127.0.0.1:{port}", pages(run["id"], keys, blocks), target)
    return 0


def pages(run: str, artifacts: dict[str, str], blocks: dict[str, str]) -> dict[str, str]:
    """The path of each picture's page."""
    return {
        "prefect-flow-run": f"/runs/flow-run/{run}",
        "prefect-changes": f"/artifacts/artifact/{artifacts['crm-report-changes']}",
        "prefect-versions": f"/artifacts/artifact/{artifacts['shop-versions']}",
        "prefect-events": "/events?resource=dataset%3A%2F%2Fcrm%2Freport",
        "prefect-block": f"/blocks/block/{blocks['lake']}",
    }


def take(server: str, paths: dict[str, str], target: Path) -> None:
    """Takes a picture of each page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments: dict[str, Any] = {"args": ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), **arguments
        )
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # width and height
        for name, path in paths.items():
            page.goto(server + path)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(2500)  # what is drawn comes after what is loaded
            page.screenshot(path=target / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
