"""What `make demo`, `make demo-prefect` and `make demo-airflow` do: the flights spec, three runners, real data."""
