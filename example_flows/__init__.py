"""Examples that run: specs, the transforms they call, and the same by hand with Airflow, Prefect and neither."""
