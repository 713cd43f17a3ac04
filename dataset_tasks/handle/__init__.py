"""What a handle on one version can do, by theme; `dataset_tasks.dataset.Dataset` is all of it."""
