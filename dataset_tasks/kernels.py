"""Arrow's compute functions, loaded when the first one is called.

Loading them makes a Python function of each of some 300, whichever are wanted: 25 ms of CPU that a command which changes
nothing has no use for.
"""

from __future__ import annotations

from typing import Any


class _Kernels:
    __slots__ = ()

    def __getattr__(self, name: str) -> Any:  # Any: pyarrow has no types
        import pyarrow.compute

        return getattr(pyarrow.compute, name)


pc = _Kernels()
"""Stands for the module `pyarrow.compute`."""
