"""Blocks of object stores: where they are, and with which credentials they are opened.

The catalog pins the store of each version as a URL that names its block (`s3://lake/data?connection=lake`), never its
secrets. So a saved block may get other credentials at any time; when it is pointed at another bucket, versions stay where
they are. Prefect loads this module in every process that looks up a block, so it imports no SDK.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias, Union, cast
from urllib.parse import urlsplit

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from pydantic import BaseModel, Field, SecretStr

from dataset_tasks.connections import StoreOptions, register_resolver
from dataset_tasks.errors import InvalidArgumentError

_log = get_logger("dataset_tasks")
_LIMIT: Final = Field(
    default=None,
    title="Concurrency limit",
    description="A global concurrency limit of Prefect: uploads and copies take one of its slots.",
)


class S3Credentials(Block):
    """Credentials for S3 and what speaks its protocol.

    Args:
        access_key: Id of the access key.
        secret_key: The key.
        session_token: Token of temporary credentials.
        profile: Profile of the worker's AWS configuration, in place of a key.
    """

    _block_type_name = "S3 Credentials (datasets)"
    _block_type_slug = "dataset-s3-credentials"
    _description = "Credentials for S3 stores of versioned datasets."

    access_key: SecretStr | None = Field(default=None, title="Access key id")
    secret_key: SecretStr | None = Field(default=None, title="Secret access key")
    session_token: SecretStr | None = Field(default=None, title="Session token")
    profile: str | None = Field(default=None, title="Profile of the worker's AWS configuration")


class AzureCredentials(Block):
    """Credentials for Azure Blob Storage. Without either, the worker's own identity is used.

    Args:
        account_key: Key of the storage account.
        sas_token: Shared access signature.
    """

    _block_type_name = "Azure Credentials (datasets)"
    _block_type_slug = "dataset-azure-credentials"
    _description = "Credentials for Azure stores of versioned datasets."

    account_key: SecretStr | None = Field(default=None, title="Account key")
    sas_token: SecretStr | None = Field(default=None, title="Shared access signature")


class GcsCredentials(Block):
    """Credentials for Google Cloud Storage. Without any, the worker's own identity is used.

    Args:
        service_account: Key of the service account as JSON, or the path of a file with it on the worker.
    """

    _block_type_name = "GCS Credentials (datasets)"
    _block_type_slug = "dataset-gcs-credentials"
    _description = "Credentials for GCS stores of versioned datasets."

    service_account: SecretStr | None = Field(default=None, title="Service account key")


def _from_aws(block: Any) -> dict[str, str]:  # Any: prefect-aws' AwsCredentials
    if getattr(block, "assume_role_arn", None):
        raise InvalidArgumentError(
            f"S3Store: the AwsCredentials assume the role {block.assume_role_arn}, expected keys or a profile",
            hint="Let a profile of the worker's AWS configuration assume it, and name that: S3Credentials(profile=...).",
        )
    secret, token = block.aws_secret_access_key, block.aws_session_token
    held = {
        "access_key": block.aws_access_key_id,
        "secret_key": secret.get_secret_value() if secret else None,
        "session_token": token.get_secret_value() if isinstance(token, SecretStr) else token,
        "profile": block.profile_name,
        "region": block.region_name,
        "endpoint_url": block.aws_client_parameters.endpoint_url,
    }
    return {name: str(value) for name, value in held.items() if value}


def _from_azure(block: Any) -> dict[str, str]:  # Any: prefect-azure's AzureBlobStorageCredentials
    if getattr(block, "client_secret", None):
        raise InvalidArgumentError(
            "AzureStore: the AzureBlobStorageCredentials are those of a service principal, expected a connection string",
            hint="Give a connection string, or the service principal to the worker by AZURE_CLIENT_ID, AZURE_TENANT_ID and "
            "AZURE_CLIENT_SECRET, and `account` without credentials.",
        )
    if block.connection_string is None:
        host = urlsplit(str(block.account_url)).hostname or ""
        account, _, service = host.partition(".")
        return {"account": account} if service.startswith("blob.core.") else {"endpoint_url": str(block.account_url)}
    parts = dict(one.split("=", 1) for one in block.connection_string.get_secret_value().split(";") if "=" in one)
    names = {
        "account": "AccountName",
        "account_key": "AccountKey",
        "sas_token": "SharedAccessSignature",
        "endpoint_url": "BlobEndpoint",
    }
    return {name: parts[theirs] for name, theirs in names.items() if parts.get(theirs)}


def _from_gcp(block: Any) -> dict[str, str]:  # Any: prefect-gcp's GcpCredentials
    if block.service_account_info is not None:
        return {"service_account": json.dumps(block.service_account_info.get_secret_value())}
    return {"service_account": str(block.service_account_file)} if block.service_account_file else {}


def _plain(block: Block, *names: str) -> dict[str, str]:
    """The fields that are set, secrets as they are."""
    held = {name: getattr(block, name) for name in names}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in held.items()
        if value
    }


class _Integration(NamedTuple):
    """Credentials of one of Prefect's own integrations, and what they become here."""

    field: str
    module: str
    cls: str
    read: Callable[[Any], dict[str, str]]  # Any: a block of another package
    ours: type[Block]


if TYPE_CHECKING:
    _Common = Block
else:  # each class made of `Block` is a type that the UI offers
    _Common = BaseModel


class _Store(_Common):
    """What the blocks of all stores have in common."""

    #: Whose saved block is named by a field, and taken in place of credentials of ours.
    _integration: ClassVar[_Integration]
    #: Fields that are options of the store as they are.
    _as_they_are: ClassVar[tuple[str, ...]] = ("endpoint_url",)

    def __init__(self, **fields: Any) -> None:  # Any: the fields of the block, which pydantic checks
        super().__init__(**self._taken(fields))

    def where(self) -> str:
        """The URL without the name of the block."""
        raise NotImplementedError

    def options(self) -> StoreOptions:
        """How the store is opened."""
        credentials: Block | None = getattr(self, "credentials", None)
        held: dict[str, Any] = {}  # Any: texts and a switch, as the options have them
        if (block := self._of_integration()) is not None:
            held = self._integration.read(block)
        elif credentials is not None:
            held = _plain(credentials, *self._integration.ours.model_fields)
        more = {name: getattr(self, name) for name in self._as_they_are}
        return StoreOptions(**{**held, **{name: value for name, value in more.items() if value}})

    def url(self) -> str:
        """The URL that the catalog pins for versions; it names this block, unless the block holds nothing but a place.

        Raises:
            InvalidArgumentError: The block holds more than a place and is not saved: other workers could not open it.
        """
        if self.options() == StoreOptions():
            return self.where()
        name = self._block_document_name
        if not name:
            raise InvalidArgumentError(
                f"the {type(self).__name__} of {self.where()} is not saved, so no other worker could open it",
                hint='Save it first, `.save("lake")`: versions keep the name of the block, never what it holds.',
            )
        return f"{self.where()}?connection={name}"

    def _of_integration(self) -> Any:  # Any: a block of another package, or None
        """The block of Prefect's own integration that is named in place of credentials of ours."""
        field, module, cls, _, _ = self._integration
        name = getattr(self, field)
        if not name:
            return None
        try:
            found = getattr(__import__(module, fromlist=[cls]), cls)
        except ImportError as error:
            raise InvalidArgumentError(
                f"{type(self).__name__}: {field} names a block of {module.split('.')[0]}, which is not installed here",
                hint=f"pip install {module.split('.')[0].replace('_', '-')}",
            ) from error
        return found.load(name, _sync=True)

    @classmethod
    def _taken(cls, fields: Mapping[str, Any]) -> dict[str, Any]:  # Any: what a caller gave for the fields
        """Fields in which credentials of the integration's class have become ours, or the name of their saved block."""
        given, theirs = fields.get("credentials"), cls._integration
        if given is None or type(given).__name__ != theirs.cls:
            return dict(fields)
        rest = {name: value for name, value in fields.items() if name != "credentials"}
        saved = getattr(given, "_block_document_name", None)
        if saved:
            return {theirs.field: saved, **rest}
        held = theirs.read(given)
        secrets = {name: value for name, value in held.items() if name in theirs.ours.model_fields}
        places = {name: value for name, value in held.items() if name not in secrets}
        return {"credentials": theirs.ours(**secrets), **places, **rest}


class S3Store(_Store, Block):
    """A store in a bucket of S3, or of what speaks its protocol.

    Args:
        bucket: Name of the bucket.
        prefix: Folder in it.
        credentials: `S3Credentials`; one of prefect-aws' `AwsCredentials` is taken, too. Default the worker's own.
        aws_credentials: Name of a saved `AwsCredentials` block of prefect-aws, in place of `credentials`.
        region: Region of the bucket.
        endpoint_url: Where the service is, when it is not Amazon's.
        path_style: Whether the bucket stands in the path and not in the host name.
        concurrency_limit: See the form.

    Example::

        S3Store(bucket="lake", prefix="datasets", credentials=S3Credentials(profile="lake")).save("lake")
    """

    _block_type_name = "S3 Store (datasets)"
    _block_type_slug = "dataset-s3-store"
    _description = "A bucket of S3 that keeps versioned datasets."
    _as_they_are = ("region", "endpoint_url", "path_style")
    _integration = _Integration(
        "aws_credentials", "prefect_aws.credentials", "AwsCredentials", _from_aws, S3Credentials
    )

    bucket: str = Field(title="Bucket")
    prefix: str = Field(default="", title="Prefix")
    credentials: S3Credentials | None = Field(default=None, title="Credentials")
    aws_credentials: str | None = Field(default=None, title="Name of an AWS Credentials block (prefect-aws)")
    region: str | None = Field(default=None, title="Region")
    endpoint_url: str | None = Field(default=None, title="Endpoint URL")
    path_style: bool = Field(default=False, title="Bucket in the path")
    concurrency_limit: str | None = _LIMIT

    def where(self) -> str:
        """As `_Store.where`."""
        return _joined("s3", self.bucket, self.prefix)


class AzureStore(_Store, Block):
    """A store in a container of Azure Blob Storage.

    Args:
        container: Name of the container.
        prefix: Folder in it.
        account: Name of the storage account.
        credentials: `AzureCredentials`; prefect-azure's `AzureBlobStorageCredentials` is taken, too.
        azure_credentials: Name of a saved `AzureBlobStorageCredentials` block, in place of `credentials`.
        endpoint_url: Where the service is, when it is not Microsoft's.
        concurrency_limit: See the form.
    """

    _block_type_name = "Azure Store (datasets)"
    _block_type_slug = "dataset-azure-store"
    _description = "A container of Azure Blob Storage that keeps versioned datasets."
    _as_they_are = ("account", "endpoint_url")
    _integration = _Integration(
        "azure_credentials", "prefect_azure.credentials", "AzureBlobStorageCredentials", _from_azure, AzureCredentials
    )

    container: str = Field(title="Container")
    prefix: str = Field(default="", title="Prefix")
    account: str | None = Field(default=None, title="Storage account")
    credentials: AzureCredentials | None = Field(default=None, title="Credentials")
    azure_credentials: str | None = Field(
        default=None, title="Name of an Azure Blob Storage Credentials block (prefect-azure)"
    )
    endpoint_url: str | None = Field(default=None, title="Endpoint URL")
    concurrency_limit: str | None = _LIMIT

    def where(self) -> str:
        """As `_Store.where`."""
        return _joined("azure", self.container, self.prefix)


class GcsStore(_Store, Block):
    """A store in a bucket of Google Cloud Storage.

    Args:
        bucket: Name of the bucket.
        prefix: Folder in it.
        credentials: `GcsCredentials`; prefect-gcp's `GcpCredentials` is taken, too.
        gcp_credentials: Name of a saved `GcpCredentials` block, in place of `credentials`.
        endpoint_url: Where the service is, when it is not Google's.
        concurrency_limit: See the form.
    """

    _block_type_name = "GCS Store (datasets)"
    _block_type_slug = "dataset-gcs-store"
    _description = "A bucket of Google Cloud Storage that keeps versioned datasets."
    _integration = _Integration(
        "gcp_credentials", "prefect_gcp.credentials", "GcpCredentials", _from_gcp, GcsCredentials
    )

    bucket: str = Field(title="Bucket")
    prefix: str = Field(default="", title="Prefix")
    credentials: GcsCredentials | None = Field(default=None, title="Credentials")
    gcp_credentials: str | None = Field(default=None, title="Name of a GCP Credentials block (prefect-gcp)")
    endpoint_url: str | None = Field(default=None, title="Endpoint URL")
    concurrency_limit: str | None = _LIMIT

    def where(self) -> str:
        """As `_Store.where`."""
        return _joined("gs", self.bucket, self.prefix)


StoreBlock: TypeAlias = Union[S3Store, AzureStore, GcsStore]  # noqa: UP007  # Prefect reads the union at run time
_KINDS: Final[Mapping[str, type[_Store]]] = {
    str(kind._block_type_slug): kind  # noqa: SLF001  # how Prefect calls it
    for kind in (S3Store, AzureStore, GcsStore)
}


def saved_store(name: str) -> StoreBlock | None:
    """The saved store block of a name; None when there is none.

    Raises:
        InvalidArgumentError: There are several, of different kinds.
    """
    with get_client(sync_client=True) as client:
        asked = {
            "block_documents": {"name": {"any_": [name]}},
            "block_types": {"slug": {"any_": list(_KINDS)}},
        }
        found = client.request("POST", "/block_documents/filter", json=asked).json()
    kinds = sorted(one["block_type"]["slug"] for one in found)
    if len(kinds) > 1:
        raise InvalidArgumentError(
            f"{name!r} is the name of several store blocks: {', '.join(kinds)}", hint="Delete all but one of them."
        )
    if not kinds:
        return None
    return cast("StoreBlock", _KINDS[kinds[0]].load(name, _sync=True))  # type: ignore[call-arg]  # no coroutine, please


def _resolve(name: str) -> StoreOptions | None:
    """What `dataset_tasks.connections` asks for the options of a connection."""
    try:
        block = saved_store(name)
    except (httpx.HTTPError, PrefectException) as error:
        _log.warning("the block %r could not be looked up: %s", name, error)
        return None
    return block.options() if block is not None else None


register_resolver(_resolve)


def _joined(scheme: str, place: str, prefix: str) -> str:
    return f"{scheme}://{place}/{prefix.strip('/')}".rstrip("/")
