"""Sensors: tasks that wait for a version."""

from airflow_provider.sensors.dataset import DatasetSensor

__all__ = ["DatasetSensor"]
