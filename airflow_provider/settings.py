"""The provider's section `[dataset_tasks]` of Airflow's configuration."""

from __future__ import annotations

from airflow_provider.compat import conf

SECTION = "dataset_tasks"


def connection_id() -> str:
    """The connection that pages, commands and triggers without one of their own use."""
    return conf.get(SECTION, "conn_id", fallback="") or "dataset_tasks_default"


def poll_interval() -> float:
    """Seconds between two looks into a catalog by whoever waits for something."""
    return float(conf.getfloat(SECTION, "poll_interval", fallback=10.0))


def page_url(path: str) -> str:
    """The address of one of the provider's pages, as seen from a browser."""
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/{SECTION.replace('_', '-')}/{path}"
