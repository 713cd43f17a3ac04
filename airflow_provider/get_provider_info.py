"""What Airflow is told about this provider. Runs in every Airflow process, so it imports nothing."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Dataset tasks"


def get_provider_info() -> dict[str, Any]:  # Any: the nested literals of Airflow's own schema
    """The provider's description, as `provider_info.schema.json` of Airflow wants it."""
    return {
        "package-name": "dataset-tasks",
        "name": _INTEGRATION,
        "description": "Versioned datasets: operators, a decorator, assets, and DAGs compiled from lineage specs.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["software"]}],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider.hooks.dataset"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "airflow_provider.operators.draft",
                    "airflow_provider.operators.version",
                    "airflow_provider.operators.guard",
                    "airflow_provider.operators.upkeep",
                    "airflow_provider.operators.step",
                ],
            }
        ],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider.sensors.dataset"]}],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["airflow_provider.triggers.dataset", "airflow_provider.triggers.approval"],
            }
        ],
        "bundles": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider.bundles.specs"]}],
        "extra-links": ["airflow_provider.links.DatasetVersionLink"],
        "task-decorators": [{"name": "dataset", "class-name": "airflow_provider.decorators.dataset.dataset_task"}],
        "asset-uris": [
            {
                "schemes": ["dataset"],
                "handler": "airflow_provider.assets.sanitize_uri",
                "factory": "airflow_provider.assets.create_asset",
                "to_openlineage_converter": "airflow_provider.assets.to_openlineage",
            }
        ],
        "cli": ["airflow_provider.cli.get_cli_commands"],
        "config": _config(),
        "connection-types": _connection_types(),
    }


def _config() -> dict[str, Any]:  # Any: as above
    return {
        "dataset_tasks": {
            "description": "Versioned datasets; see the page on Airflow of dataset-tasks.",
            "options": {
                "conn_id": _option(
                    "The connection of the catalog that the pages and `airflow datasets` show.",
                    kind="string",
                    default="dataset_tasks_default",
                    example="lake",
                ),
                "poll_interval": _option(
                    "Seconds between two looks into a catalog by watchers of assets and by approvals that wait.",
                    kind="float",
                    default="10.0",
                    example="30",
                ),
            },
        }
    }


def _connection_types() -> list[dict[str, Any]]:  # Any: as above
    return [
        {
            "connection-type": "dataset_tasks",
            "hook-class-name": "airflow_provider.hooks.dataset.DatasetHook",
            "hook-name": "Dataset catalog",
            "ui-field-behaviour": {
                "hidden-fields": ["host", "port", "schema"],
                "relabeling": {"login": "Catalog user", "password": "Catalog password"},
                "placeholders": {"login": "only if the URL has none", "password": "only if the URL has none"},
            },
            "conn-fields": {
                "catalog_url": _field(
                    "Catalog URL", "Database of the catalog, such as postgresql+psycopg://db.example.org/datasets."
                ),
                "store_url": _field("Store URL", "Where bytes are kept: a folder, s3://, gs:// or azure://."),
                "cache_dir": _field("Cache folder", "Folder on the worker for verified copies of versions."),
                "catalog": {
                    "label": "Catalog",
                    "description": "'embedded' allows a SQLite catalog in a folder that all workers share "
                    "(one machine). Without it a catalog URL is required.",
                    "schema": {"type": ["string", "null"], "enum": ["server", "embedded"]},
                },
                "home": _field("Home folder", "Folder of the embedded catalog, store and cache."),
            },
        }
    ]


def _field(label: str, description: str) -> dict[str, Any]:  # Any: as above
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


def _option(description: str, *, kind: str, default: str, example: str) -> dict[str, Any]:  # Any: as above
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "default": default,
        "example": example,
    }
