"""Takes the pictures of `docs/airflow.md` from a real Airflow: `python scripts/airflow_pictures.py [folder]`.

Needs Debian's `chromium` and PyPI's `playwright`; takes a minute or two. The folder is `docs/images` by default.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from example_flows.demo.airflow_server import AirflowServer

CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1200, 640
SPEC = """version: 1
name: shop
project: crm
description: Orders, visits and what is made from them
params:
  folder: {type: str}
datasets:
  orders:
    description: Orders as the till has them
    sync: {path: "${params.folder}/orders"}
    tags: [raw]
  visits:
    description: Visits of the web site
    sync: {path: "${params.folder}/visits"}
    tags: [raw]
  features:
    description: One row a customer
    inputs: [orders, visits]
    transform: {call: "shop_code:join"}
    check: {min_files: 1}
  training:
    parents: [features]
    verify: true
    publish: {approval: {timeout: 1d}, alias: prod}
"""
CODE = '''"""What the spec calls."""


def join(inputs, output):
    """All files, one beside the other."""
    for name, folder in inputs.items():
        for file in folder.iterdir():
            (output / f"{name}-{file.name}").write_bytes(file.read_bytes() * 3)
'''
DAG = """from pathlib import Path

from airflow_provider.dags import dag_from_spec

shop = dag_from_spec(Path(__file__).with_name("shop.yaml"), tags=["dataset-tasks"])
"""


def main(target: Path) -> None:
    """Runs a spec twice, once approved, once waiting, and takes the pictures."""
    from example_flows.demo.airflow_server import AirflowServer

    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="airflow-pictures-") as home:
        place = Path(home)
        dags = place / "dags"
        dags.mkdir()
        for name, text in (("shop.yaml", SPEC), ("shop_code.py", CODE), ("shop.py", DAG)):
            (dags / name).write_text(text)
        with AirflowServer(place, dags, triggerer=True) as airflow, browser() as page:
            page.goto(f"{airflow.rest.base_url}auth/token/login")
            run(airflow, place, "monday", 3)
            run(airflow, place, "tuesday", 4, answer=False)
            take(airflow, page, target)


def run(airflow: AirflowServer, place: Path, name: str, files: int, *, answer: bool = True) -> None:
    """Runs the DAG up to its question; says yes."""
    from example_flows.demo.services import json_object

    for kind in ("orders", "visits"):
        (place / kind).mkdir(exist_ok=True)
        for number in range(files):
            (place / kind / f"{number}.csv").write_text(f"customer,{kind}\n" * (1000 + number))
    airflow.unpause("shop")
    airflow.trigger("shop", name, conf={"folder": str(place)})
    airflow.wait_until_parked("shop", name, "training.approve")
    if answer:
        url = f"api/v2/dags/shop/dagRuns/{name}/taskInstances/training.approve/-1/hitlDetails"
        told = {"chosen_options": ["Approve"], "params_input": {"note": "as expected"}}
        json_object(airflow.rest.patch(url, json=told))
        assert airflow.wait_for_run("shop", name)["state"] == "success", airflow.log_tails()


def take(airflow: AirflowServer, page: Page, target: Path) -> None:
    """The pictures."""
    from dataset_tasks.session import open_session

    base = str(airflow.rest.base_url)
    with open_session(home=airflow.env["DATASET_TASKS_HOME"]) as session:
        version = session.catalog.resolve("crm/training@prod")
    shots = {
        "airflow-datasets": ("plugin/datasets", "Newest version"),
        "airflow-version": (f"dataset-tasks/versions/{version.id}", "Used by"),
        "airflow-dag": ("dags/shop/runs/monday", "training"),
        "airflow-approval": (
            "dags/shop/runs/tuesday/tasks/training.approve/required_actions", "Publish crm/training"
        ),
    }  # fmt: skip
    for name, (path, text) in shots.items():
        page.goto(f"{base}{path}")
        where = page.frame_locator("iframe") if path.startswith("plugin/") else page
        where.get_by_text(text).first.wait_for(timeout=60_000)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=target / f"{name}.png", scale="css")
        print(f"{name}.png: {(target / f'{name}.png').stat().st_size // 1000} kB")


@contextmanager
def browser() -> Iterator[Page]:
    """A page of Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        yield page
        chromium.close()


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs" / "images")
