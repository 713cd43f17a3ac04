"""Every error this project raises on purpose, grouped by what the caller should do about it.

The message says what failed, on what, what was expected and what was found; `hint` says what to do next.
`retryable` tells an orchestrator whether the same call may succeed later without anybody changing anything.
Where users of the reference API catch `ValueError`, the class is a `ValueError` too.
"""

from __future__ import annotations

from typing import ClassVar


class DatasetError(Exception):
    """Root of the tree.

    Args:
        message: What failed, on what, expected and found.
        hint: The next step for the reader, a full sentence; may be empty.
        kind: Stable, append-only code of the error; each class has its own default.
    """

    default_kind: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind or self.default_kind

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.kind, self.__dict__)

    def to_json(self) -> dict[str, object]:
        """The error as JSON values: what the CLI prints under `--json`."""
        return {"error": self.kind, "message": self.message, "hint": self.hint, "retryable": self.retryable}


def _rebuild(cls: type[DatasetError], message: str, hint: str, kind: str, state: dict[str, object]) -> DatasetError:
    error = cls.__new__(cls)
    DatasetError.__init__(error, message, hint=hint, kind=kind)
    error.__dict__.update(state)
    return error


class InvalidArgumentError(DatasetError, ValueError):
    """An argument is wrong whatever the state of the catalog: mend the call."""

    default_kind = "invalid_argument"


class SpecError(InvalidArgumentError):
    """A spec has problems; `problems` holds all of them as `file:line:column: path: message`."""

    default_kind = "spec"

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.problems = problems

    def to_json(self) -> dict[str, object]:
        """As `DatasetError.to_json`, with the problems."""
        return {**super().to_json(), "problems": list(self.problems)}


class NotFoundError(DatasetError, LookupError, ValueError):
    """Nothing in the catalog answers the question that was asked."""

    default_kind = "not_found"


class AlreadyExistsError(DatasetError, ValueError):
    """The thing to be made is there already, made by somebody else."""

    default_kind = "already_exists"


class StateError(DatasetError, ValueError):
    """The version is in a state that does not allow the call.

    Kinds: `finalized`, `not_finalized`, `pending_uploads`, `in_use`, `parent_not_final`, `aborted`, `deleted`.
    """

    default_kind = "state"


class CheckFailedError(DatasetError):
    """A gate on the content of a draft did not hold; `findings` lists what it found."""

    default_kind = "check_failed"

    def __init__(self, message: str, *, findings: tuple[str, ...] = (), hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.findings = findings

    def to_json(self) -> dict[str, object]:
        """As `DatasetError.to_json`, with the findings."""
        return {**super().to_json(), "findings": list(self.findings)}


class TransformError(DatasetError):
    """The user's transform raised or exited with an error; the cause is chained."""

    default_kind = "transform_failed"
    retryable = True


class ConflictError(DatasetError):
    """Another writer moved the version in between: read it again and repeat."""

    default_kind = "conflict"
    retryable = True


class OutcomeUnknownError(DatasetError):
    """The commit may or may not have landed; the same call with the same key finds out."""

    default_kind = "outcome_unknown"
    retryable = True


class KeyReusedError(DatasetError, ValueError):
    """An operation key was used before with other parameters."""

    default_kind = "key_reused"


class WrongCatalogError(DatasetError):
    """A reference made in one catalog was used in another."""

    default_kind = "wrong_catalog"


class CatalogError(DatasetError):
    """The catalog can't be used as it is: damaged, too new, on a file system that can't hold it."""

    default_kind = "catalog"


class CatalogUnavailableError(CatalogError):
    """The catalog did not answer in time: locked, restarting, unreachable."""

    default_kind = "catalog_unavailable"
    retryable = True


class IntegrityError(DatasetError):
    """Stored bytes are not what was acknowledged; `paths` names the files concerned."""

    default_kind = "integrity"

    def __init__(self, message: str, *, paths: tuple[str, ...] = (), hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.paths = paths


class StorageError(DatasetError):
    """A store refused: no such bucket, no permission, no space."""

    default_kind = "storage"


class StorageUnavailableError(StorageError):
    """A store did not answer; trying again later may help."""

    default_kind = "storage_unavailable"
    retryable = True


class ObjectMissingError(StorageError):
    """A store does not hold the object that was asked for."""

    default_kind = "object_missing"


class SourceError(DatasetError):
    """Source files can't be read, changed or vanished; `paths` lists every one."""

    default_kind = "source"

    def __init__(self, message: str, *, paths: tuple[str, ...] = (), hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.paths = paths


class SourceUnavailableError(SourceError):
    """The server of an external link did not answer; trying again later may help."""

    default_kind = "source_unavailable"
    retryable = True


class TargetError(DatasetError, ValueError):
    """The folder a copy was to be written to can't take it."""

    default_kind = "target"
