"""Named connections of stores: where to, and with which credentials, kept apart from URLs, specs and the catalog.

A name is looked up where the code runs: in what the plug-ins registered (Airflow connections, Prefect blocks), then in
`config.toml` of the home folder::

    [connections.lake]
    endpoint_url = "https://s3.example.org"
    region = "eu-central-1"
    profile = "lake"
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, TypeAlias

from dataset_tasks.errors import InvalidArgumentError, NotFoundError

HOME: Final = "DATASET_TASKS_HOME"
CONFIG: Final = "config.toml"
#: Which of the options are secrets: never shown, never written.
SECRETS: Final = frozenset({"access_key", "secret_key", "session_token", "account_key", "sas_token", "service_account"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What a connection says; an empty field leaves it to the URL, else to the SDK's own configuration.

    Args:
        endpoint_url: Where the service is, if it is not the provider's own.
        region: S3: its region.
        profile: S3: profile of the AWS configuration.
        path_style: S3: the bucket stands in the path, not in the host name.
        account: Azure: name of the storage account.
        access_key: S3: id of the access key.
        secret_key: S3: the key.
        session_token: S3: token of temporary credentials.
        account_key: Azure: key of the account.
        sas_token: Azure: shared access signature.
        service_account: GCS: the service account's key as JSON, or the path of a file with it.
    """

    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    path_style: bool = False
    account: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    account_key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)
    service_account: str = field(default="", repr=False)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], *, where: str) -> StoreOptions:
        """Options from names and values.

        Args:
            values: As the fields are called.
            where: Where they stand, for messages.

        Raises:
            InvalidArgumentError: A name is not known, or a value of the wrong type; no value is repeated in it.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidArgumentError(
                f"{where}: {', '.join(unknown)} is no option of a connection",
                hint=f"There are {', '.join(sorted(known))}.",
            )
        for name, value in values.items():
            wanted = bool if name == "path_style" else str
            if not isinstance(value, wanted):
                raise InvalidArgumentError(
                    f"{where}: {name} is {type(value).__name__}, expected {wanted.__name__}",
                    hint="Write `true` or `false`." if wanted is bool else "Put it in quotes.",
                )
        return cls(**values)  # type: ignore[arg-type]  # checked one by one above


#: Looks a name up; None where it knows none of that name. It raises when it knows the name and can't use it.
Resolver: TypeAlias = Callable[[str], StoreOptions | None]

_resolvers: list[Resolver] = []
_lock = threading.Lock()


def register_resolver(resolver: Resolver) -> None:
    """Has names looked up by a resolver too, before those registered earlier; again it does nothing."""
    with _lock:
        if resolver not in _resolvers:
            _resolvers.insert(0, resolver)


def unregister_resolver(resolver: Resolver) -> None:
    """Takes a resolver out; one that is not registered is fine."""
    with _lock:
        if resolver in _resolvers:
            _resolvers.remove(resolver)


def resolve(name: str, *, home: str | Path | None = None) -> StoreOptions:
    """The options of a connection.

    Args:
        name: Of an Airflow connection, a Prefect block, or a table `[connections.NAME]` of `config.toml`.
        home: Folder of `config.toml`; default `DATASET_TASKS_HOME`, else `~/.dataset_tasks`.

    Raises:
        NotFoundError: Nobody knows the name here.
        InvalidArgumentError: Its options, or `config.toml`, can't be read.
    """
    with _lock:
        resolvers = list(_resolvers)
    for resolver in resolvers:
        found = resolver(name)
        if found is not None:
            return found
    place = Path(os.path.expanduser(home or os.environ.get(HOME) or "~/.dataset_tasks")) / CONFIG
    tables = _connections(place)
    if name not in tables:
        known = f" It has {', '.join(sorted(tables))}." if tables else ""
        raise NotFoundError(
            f"there is no connection {name!r} here",
            hint=f"Make an Airflow connection or a Prefect block of that name, or write [connections.{name}] into {place}."
            f"{known}",
            kind="no_connection",
        )
    table = tables[name]
    where = f"[connections.{name}] in {place}"
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"{where} is no table", hint="Write one option a line below its heading.")
    return StoreOptions.from_mapping(table, where=where)


def _connections(place: Path) -> Mapping[str, object]:
    try:
        text = place.read_bytes().decode()
        tables = tomllib.loads(text).get("connections", {})
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"{place} can't be read: {error}", hint="Mend the file.") from error
    if not isinstance(tables, dict):
        raise InvalidArgumentError(f"`connections` in {place} is no table", hint="Write [connections.NAME].")
    return tables
