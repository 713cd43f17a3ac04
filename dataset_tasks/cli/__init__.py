"""The `dataset-tasks` command line."""
