"""Airflow connections as connections of stores: `s3://lake/data?connection=lake` opens with what connection `lake` says.

Types `aws`, `wasb` (also `adls`, `azure_data_lake`) and `google_cloud_platform`, as the providers of those services have
them; none of those providers needs to be installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from airflow_provider.compat import AirflowNotFoundException
from dataset_tasks.connections import StoreOptions, register_resolver
from dataset_tasks.errors import InvalidArgumentError

if TYPE_CHECKING:
    from airflow.sdk import Connection

Extra: TypeAlias = Mapping[str, object]


def install() -> None:
    """Has stores look up their connections in Airflow too; again it does nothing."""
    register_resolver(resolve)


def resolve(name: str) -> StoreOptions | None:
    """What an Airflow connection says of a store; None where there is no such connection.

    Raises:
        InvalidArgumentError: It is of a type that opens no store.
    """
    try:
        connection = BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return None
    read = _TYPES.get(connection.conn_type or "")
    if read is None:
        raise InvalidArgumentError(
            f"connection {name!r} is of type {connection.conn_type!r}, which opens no store",
            hint=f"Make it one of the types {', '.join(sorted(_TYPES))}.",
        )
    return read(connection, connection.extra_dejson)


def _s3(connection: Connection, extra: Extra) -> StoreOptions:
    service = _table(_table(extra, "service_config"), "s3")
    style = _table(_table(extra, "config_kwargs"), "s3").get("addressing_style")
    return StoreOptions(
        endpoint_url=_text(service, "endpoint_url") or _text(extra, "endpoint_url"),
        region=_text(extra, "region_name"),
        profile=_text(extra, "profile_name"),
        path_style=style == "path",
        access_key=connection.login or _text(extra, "aws_access_key_id"),
        secret_key=connection.password or _text(extra, "aws_secret_access_key"),
        session_token=_text(extra, "aws_session_token"),
    )


def _azure(connection: Connection, extra: Extra) -> StoreOptions:
    host = connection.host or _text(extra, "account_url")
    if host and "://" not in host and "." in host:
        host = f"https://{host}"
    account = connection.login or ""
    is_own = (urlsplit(host).hostname or "").endswith((".blob.core.windows.net", ".dfs.core.windows.net"))
    return StoreOptions(
        endpoint_url="" if is_own or "://" not in host else host,
        account=account or ((urlsplit(host).hostname or "").partition(".")[0] if is_own else host),
        account_key=connection.password or _text(extra, "shared_access_key") or _text(extra, "account_key"),
        sas_token=_text(extra, "sas_token"),
    )


def _google(_connection: Connection, extra: Extra) -> StoreOptions:
    key = extra.get("keyfile_dict")
    return StoreOptions(
        endpoint_url=_text(extra, "endpoint_url"),
        service_account=(key if isinstance(key, str) else json.dumps(key)) if key else _text(extra, "key_path"),
    )


_TYPES: Final[Mapping[str, Callable[[Connection, Extra], StoreOptions]]] = {
    "aws": _s3,
    "wasb": _azure,
    "adls": _azure,
    "azure_data_lake": _azure,
    "google_cloud_platform": _google,
}


def _table(extra: Extra, key: str) -> Extra:
    value = extra.get(key)
    return value if isinstance(value, dict) else {}


def _text(extra: Extra, key: str) -> str:
    value = extra.get(key)
    return value if isinstance(value, str) else ""
