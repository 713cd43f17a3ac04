"""Tools for tests, ours and those of pipelines: strategies, invariants, stores and manifests in memory."""
