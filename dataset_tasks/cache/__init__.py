"""The local cache of verified version trees: complete, read-only, shared by all processes of this machine.

Below its folder: `trees/<catalog id>/<version id>/` (with `.<part>` for a part of a version), `links/` trees of soft links
to them, `lists/` what stands in each, `locks/` and `pins/`.
"""

from dataset_tasks.cache.eviction import CachedTree, Evicted
from dataset_tasks.cache.layout import TreeKey
from dataset_tasks.cache.pins import Pin
from dataset_tasks.cache.trees import Cache

__all__ = ["Cache", "CachedTree", "Evicted", "Pin", "TreeKey"]
