"""Pages on datasets in Airflow's UI."""
