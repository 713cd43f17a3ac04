"""Triggers: a deferred sensor or approval, and an event source for assets."""
