"""Credentials as the blocks of prefect-aws, prefect-azure and prefect-gcp really are; nox installs them: `isolated(newest-prefect)`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.connections import StoreOptions, resolve
from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from prefect_blocks import AzureStore, GcsStore, S3Store
from tests.e2e.prefect.conftest import Api

CONNECTION = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5czNjcmV0==;EndpointSuffix=core.windows.net"


def aws(**fields: Any) -> Any:
    package = pytest.importorskip("prefect_aws.credentials", reason="pip install prefect-aws")
    return package.AwsCredentials(**fields)


def azure(**fields: Any) -> Any:
    package = pytest.importorskip("prefect_azure.credentials", reason="pip install prefect-azure")
    return package.AzureBlobStorageCredentials(**fields)


def gcp(**fields: Any) -> Any:
    package = pytest.importorskip("prefect_gcp.credentials", reason="pip install prefect-gcp")
    return package.GcpCredentials(**fields)


@cache
def service_account(email: str = "a@example.org") -> dict[str, str]:
    """A key of the form that Google's library accepts."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    token_uri = "https://oauth2.googleapis.com/token"
    return {"type": "service_account", "private_key": private, "client_email": email, "token_uri": token_uri}


def held(store: Any) -> dict[str, Any]:
    """The options of a store that are set."""
    none = StoreOptions()
    found = store.options()
    return {name: value for name in none.__slots__ if (value := getattr(found, name)) != getattr(none, name)}


def test_keys_and_places_of_aws_credentials_are_taken() -> None:
    keys = aws(
        aws_access_key_id="AKIA",
        aws_secret_access_key="s3cret",
        aws_session_token="token",
        region_name="eu-west-1",
        aws_client_parameters={"endpoint_url": "http://127.0.0.1:1"},
    )
    store = S3Store(bucket="b", credentials=keys)
    assert held(store) == {
        "access_key": "AKIA",
        "secret_key": "s3cret",
        "session_token": "token",
        "region": "eu-west-1",
        "endpoint_url": "http://127.0.0.1:1",
    }
    assert "s3cret" not in repr(store) + store.model_dump_json()
    assert held(S3Store(bucket="b", credentials=aws(profile_name="lake"))) == {"profile": "lake"}


def test_a_role_to_assume_is_refused_not_passed_over() -> None:
    role = aws(aws_access_key_id="AKIA", aws_secret_access_key="s3cret")
    if "assume_role_arn" not in type(role).model_fields:
        pytest.skip("this prefect-aws knows no roles")
    role.assume_role_arn = "arn:aws:iam::1:role/lake"
    with pytest.raises(InvalidArgumentError, match="role arn:aws:iam::1:role/lake") as caught:
        S3Store(bucket="b", credentials=role)
    assert "profile" in caught.value.hint


def test_a_connection_string_or_the_account_of_azure_credentials_is_taken() -> None:
    store = AzureStore(container="abc", credentials=azure(connection_string=CONNECTION))
    assert held(store) == {"account": "acc", "account_key": "a2V5czNjcmV0=="}
    assert "a2V5czNjcmV0" not in repr(store) + store.model_dump_json()
    by_url = azure(account_url="https://acc.blob.core.windows.net/")
    assert held(AzureStore(container="abc", credentials=by_url)) == {"account": "acc"}


def test_a_service_principal_is_refused_not_passed_over() -> None:
    principal = azure(
        account_url="https://acc.blob.core.windows.net/", tenant_id="t", client_id="c", client_secret="s3cret"
    )
    with pytest.raises(InvalidArgumentError, match="service principal") as caught:
        AzureStore(container="abc", credentials=principal)
    assert "AZURE_CLIENT_SECRET" in caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_the_key_of_gcp_credentials_is_taken_as_text_or_as_a_file(tmp_path: Path) -> None:
    key = service_account()
    store = GcsStore(bucket="b", credentials=gcp(service_account_info=key))
    assert json.loads(held(store)["service_account"]) == key
    assert "PRIVATE KEY" not in repr(store) + store.model_dump_json()
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key))
    assert held(GcsStore(bucket="b", credentials=gcp(service_account_file=str(file)))) == {"service_account": str(file)}


def of_aws(key: str) -> tuple[Any, Any]:
    return aws(aws_access_key_id=key, aws_secret_access_key="s3cret"), S3Store(bucket="abc", aws_credentials="team")


def of_azure(account: str) -> tuple[Any, Any]:
    block = azure(connection_string=CONNECTION.replace("=acc;", f"={account};"))
    return block, AzureStore(container="abc", azure_credentials="team")


def of_gcp(email: str) -> tuple[Any, Any]:
    block = gcp(service_account_info=service_account(email))
    return block, GcsStore(bucket="abc", gcp_credentials="team")


@pytest.mark.parametrize("both", [of_aws, of_azure, of_gcp])
def test_saved_credentials_stay_where_they_are_and_are_read_anew_when_the_store_is_used(api: Api, both: Any) -> None:
    block, store = both("first")
    block.save("team", overwrite=True)
    place = {"container": "abc"} if isinstance(store, AzureStore) else {"bucket": "abc"}
    taken = type(store)(**place, credentials=block)
    assert taken == store, "only the name of the saved block is kept"
    taken.save("by-name", overwrite=True)
    assert taken.url().endswith("://abc?connection=by-name")
    assert "first" in str(vars_of(resolve("by-name")))
    both("second")[0].save("team", overwrite=True)
    assert "second" in str(vars_of(resolve("by-name")))
    documents = str(api.find("block_documents", block_documents={"name": {"any_": ["team", "by-name"]}}))
    assert "s3cret" not in documents
    assert "a2V5czNjcmV0" not in documents
    assert "PRIVATE KEY" not in documents
    type(store).delete("by-name")  # two stores of one name would be an error
    with pytest.raises(NotFoundError):
        resolve("by-name")


def vars_of(options: StoreOptions) -> dict[str, Any]:
    """All fields, secrets too."""
    return {name: getattr(options, name) for name in options.__slots__}
