"""DAG bundles: where Airflow finds DAGs of specs without any DAG file."""

from airflow_provider.bundles.specs import SpecDagBundle

__all__ = ["SpecDagBundle"]
