"""The hook: one session for each catalog a worker process talks to."""
