"""Airflow provider of dataset-tasks: hook, operators, `@task.dataset`, assets, and DAGs compiled from specs."""
