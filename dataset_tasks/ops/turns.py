"""Taking turns at a draft: who loses again and again holds it for a moment, and the others wait."""

from __future__ import annotations

import random
import secrets
import time
from typing import Self

from dataset_tasks.catalog.leases import LEASED, Lease
from dataset_tasks.errors import ConflictError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.model import Version
from dataset_tasks.ops.context import Context

#: So often a writer may lose before it asks the others to wait.
PATIENCE = 3
_TRIES = 12
_LEASE_SECONDS = 30.0
_LONGEST_SECONDS = 4 * _LEASE_SECONDS


class Turns:
    """How a writer behaves that finds others at the same version; leave the `with` block when it is done.

    Attributes:
        lease: What it holds, once it lost too often.
    """

    def __init__(self, context: Context, version: Version) -> None:
        self.lease: Lease | None = None
        self._context = context
        self._version = version
        self._losses = 0
        self._until = time.monotonic() + _LONGEST_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.lease is not None:
            self._context.session.catalog.end_lease(self.lease)

    def lost(self, error: ConflictError) -> None:
        """After a commit that lost: waits a moment, and takes the lease of the version when it was too often.

        Raises:
            ConflictError: The given one, when trying again does not help.
        """
        waits = error.kind == LEASED
        self._losses += not waits
        if self._losses >= _TRIES or not (waits or error.kind == ConflictError.default_kind):
            raise error
        if waits and time.monotonic() > self._until:
            raise error
        time.sleep(random.uniform(0, 0.02 * (1 + self._losses)))  # noqa: S311  # jitter, no secret
        if self._losses >= PATIENCE and self.lease is None and not waits:
            self._take()

    def _take(self) -> None:
        catalog = self._context.session.catalog
        try:
            self.lease = catalog.take_lease(
                self._version.id, secrets.token_hex(16), seconds=_LEASE_SECONDS, origin=self._context.origin
            )
        except ConflictError:
            return  # somebody else lost as often and was faster: it will be done soon
        failpoint("content.after_lease")
