"""How a catalog of an older schema becomes one of this: Alembic scripts, one for each schema, named by its number.

Where a catalog stands is told by `schema` in its table `meta`. Scripts add and never rebuild, so that programs which are
still running on the older schema go on working.
"""
