"""A bucket of each kind of server, and the credentials that open it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from functools import cache
from urllib.parse import quote

import pytest

BUCKET = "lake"
#: Azurite's own account, the same everywhere; its key is public.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def set_credentials(kind: str, endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Puts what a server (its URL) wants to see into the environment."""
    patch.delenv("AWS_PROFILE", raising=False)
    values = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if kind == "azurite":
        values = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}
    if kind == "gcs":
        names = ("client_email", "private_key", "private_key_id")
        nobody = {"gcs_base_url": endpoint, "disable_oauth": True} | dict.fromkeys(names, "")
        values["GOOGLE_SERVICE_ACCOUNT_KEY"] = json.dumps(nobody)
    for name, value in values.items():
        patch.setenv(name, value)


def make_bucket(kind: str, endpoint: str, patch: pytest.MonkeyPatch, *, at: str = "") -> str:
    """Sets the credentials, makes the bucket where there is none, and gives the URL of a store in it.

    Args:
        kind: Name of the server.
        endpoint: Its URL.
        patch: Sets credentials for the test.
        at: Prefix in the bucket, URL-quoted.
    """
    set_credentials(kind, endpoint, patch)
    {"moto": _make_s3, "rgw": _make_s3, "azurite": _make_azure, "gcs": _make_s3}[kind](endpoint)
    scheme, path, more = {
        "moto": ("s3", "", "&style=path"),
        "rgw": ("s3", "", "&style=path"),
        "azurite": ("azure", f"/{AZURE_ACCOUNT}", f"&account={AZURE_ACCOUNT}"),
        "gcs": ("gs", "", ""),
    }[kind]
    return f"{scheme}://{BUCKET}/{at}?endpoint={quote(endpoint + path, safe='')}{more}"


@cache
def _make_s3(endpoint: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint)
    found = client.list_buckets()["Buckets"]
    if BUCKET not in [bucket["Name"] for bucket in found]:
        client.create_bucket(Bucket=BUCKET)


@cache
def _make_azure(endpoint: str) -> None:
    """By a request signed by hand: what we use of obstore makes no containers."""
    import hashlib
    import hmac
    from datetime import UTC, datetime

    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = f"x-ms-date:{now}\nx-ms-version:2021-08-06\n"
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    text = "PUT" + "\n" * 12 + headers + resource
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256)).decode()
    _send(
        urllib.request.Request(
            f"{endpoint}/{AZURE_ACCOUNT}/{BUCKET}?restype=container",
            b"",
            {
                "x-ms-date": now,
                "x-ms-version": "2021-08-06",
                "Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}",
                "Content-Type": "",
            },
            method="PUT",
        )
    )


def _send(request: urllib.request.Request) -> None:
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 409:  # another worker was first
            raise
