"""`@task.dataset`: a Python function whose output folder becomes the next version of a dataset."""
