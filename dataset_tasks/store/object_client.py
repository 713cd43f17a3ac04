"""How obstore is set up for Azure and GCS, and what its errors mean: for stores, and for files that are read from there.

With `object` and `external.clouds`, which reads through a store's client, all that knows obstore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from obstore import exceptions as failures
from obstore.store import AzureStore, GCSStore

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.store.transfer import Patience
from dataset_tasks.store.urls import StoreUrl

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_CONNECT_SECONDS: Final = 10
#: For one request with its body; blocks are small enough for a slow line.
_REQUEST_SECONDS: Final = 120


def make_azure(place: StoreUrl, options: StoreOptions, patience: Patience) -> AzureStore:
    """A client of a container.

    Raises:
        InvalidArgumentError: The options can't be used.
    """
    config: dict[str, Any] = {  # Any: obstore's own names of options, each with its own type
        "account_name": place.options.get("account") or options.account,
        "account_key": options.account_key,
        "sas_key": options.sas_token,
        "endpoint": place.endpoint(options),
        "skip_signature": _is_anonymous(place),
    }
    with _made(place):
        return AzureStore(place.bucket, config=_given(config), **_settings(place, options, patience))


def make_google(place: StoreUrl, options: StoreOptions, patience: Patience) -> GCSStore:
    """A client of a bucket.

    Raises:
        InvalidArgumentError: The options can't be used.
    """
    key = options.service_account
    config: dict[str, Any] = {  # Any: as above
        "base_url": place.endpoint(options),
        "service_account_key": key if key.lstrip().startswith("{") else "",
        "service_account": "" if key.lstrip().startswith("{") else key,
        "skip_signature": _is_anonymous(place),
    }
    with _made(place):
        return GCSStore(place.bucket, config=_given(config), **_settings(place, options, patience))


@contextmanager
def explained(url: str, key: str) -> Iterator[None]:
    """Turns what obstore raises about a key into errors of ours; `url` is the store's.

    Raises:
        ObjectMissingError: There is no such object.
        AlreadyExistsError: There is one already.
        StorageUnavailableError: The server did not answer.
        StorageError: It refused.
    """
    what = key or "a listing"
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(
            f"the store {url} has no object {key}", hint="Check that it is the right store."
        ) from error
    except (failures.AlreadyExistsError, failures.PreconditionError) as error:
        raise AlreadyExistsError(f"the store {url} has an object {key} already", hint="Read it instead.") from error
    except (failures.PermissionDeniedError, failures.UnauthenticatedError, PermissionError) as error:
        raise StorageError(
            f"{url} refused {what}: {_first_line(error)}",
            hint="Check the credentials: of the connection, or in the environment; and what they may do here.",
        ) from error
    except (failures.NotSupportedError, failures.InvalidPathError, ValueError) as error:
        raise StorageError(f"{url} can't do that for {what}: {_first_line(error)}", hint="Check the URL.") from error
    except (failures.BaseError, OSError) as error:
        text = _first_line(error)
        if any(f" {status} " in text for status in ("400", "401", "403", "405", "416")):
            raise StorageError(f"{url} refused {what}: {text}", hint="Check the URL and its rights.") from error
        raise StorageUnavailableError(
            f"{url} did not answer for {what}: {text}",
            hint="Check the network and the endpoint, then try again.",
        ) from error


def _is_anonymous(place: StoreUrl) -> bool:
    return place.options.get("anonymous") == "true"


def _given(config: dict[str, Any]) -> Any:  # Any: obstore's dictionary of options
    return {name: value for name, value in config.items() if value}


def _settings(place: StoreUrl, options: StoreOptions, patience: Patience) -> dict[str, Any]:  # Any: as above
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
        "allow_http": (place.endpoint(options) or "").startswith("http://"),
    }
    retry: RetryConfig = {
        "max_retries": 8,
        "retry_timeout": timedelta(seconds=patience.seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first),
            "max_backoff": timedelta(seconds=patience.most),
            "base": 2,
        },
    }
    return {"client_options": client, "retry_config": retry}


@contextmanager
def _made(place: StoreUrl) -> Iterator[None]:
    """Explains options that obstore does not take; its own words may hold their values, so they are left out."""
    try:
        yield
    except (failures.BaseError, ValueError, OSError) as error:
        raise InvalidArgumentError(
            f"the options of the store {place.text} can't be used ({type(error).__name__})",
            hint="Check account, endpoint and credentials of its connection, or of the environment.",
        ) from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
