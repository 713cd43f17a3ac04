"""The database of versions, parents, tags, operations and events: the only SQL in the project."""
