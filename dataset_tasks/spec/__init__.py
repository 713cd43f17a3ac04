"""The lineage spec: reading it, compiling it to a plan, running the plan here."""
