"""The URL of an object store: `scheme://bucket/prefix?option=value`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dataset_tasks.connections import StoreOptions
from dataset_tasks.errors import InvalidArgumentError

#: Service names of ours and longest keys of theirs leave so much (bytes) for a prefix.
_MOST_PREFIX_BYTES: Final = 200
_HINT_CREDENTIALS: Final = (
    "Take them out of the URL: they belong in the environment, an Airflow connection, a Prefect block or "
    "[connections.NAME] of config.toml."
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A URL taken apart; `prefix` is empty or ends with a `/`, `options` are those behind the `?`."""

    scheme: str
    bucket: str
    prefix: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, scheme: str, known: Collection[str]) -> StoreUrl:
        """Takes a URL apart. Values of options are never repeated in an error: they may be secrets.

        Args:
            url: The URL.
            scheme: What it is called in `text`, whichever of its names the URL has.
            known: Options that there are.

        Raises:
            InvalidArgumentError: It can't be read, has an unknown option, or holds credentials.
        """
        parts = urlsplit(url)
        refuse_credentials(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(options) - set(known))
        path = unquote(parts.path).strip("/")
        shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
        hint = f"Write `{scheme}://bucket/prefix`, and behind a `?` any of {', '.join(known)}."
        if unknown:
            raise InvalidArgumentError(f"{shown!r} has unknown options: {', '.join(unknown)}", hint=hint)
        if not parts.netloc or parts.fragment:
            raise InvalidArgumentError(f"{shown!r} is not the URL of a {scheme} store", hint=hint)
        if len(path.encode()) > _MOST_PREFIX_BYTES or any(part in ("", ".", "..") for part in path.split("/") if path):
            raise InvalidArgumentError(
                f"{path!r} can't be the prefix of a store",
                hint=f"Give at most {_MOST_PREFIX_BYTES} bytes, without `.`, `..` and `//`.",
            )
        if options.get("style", "path") not in ("path", "virtual"):
            raise InvalidArgumentError("option style is neither `path` nor `virtual`", hint="Leave it out, or mend it.")
        return cls(scheme, parts.netloc, f"{path}/" if path else "", options)

    @property
    def text(self) -> str:
        """The URL again, in its one form."""
        query = urlencode(sorted(self.options.items()))
        return f"{self.scheme}://{self.bucket}/{quote(self.prefix)}".rstrip("/") + (f"?{query}" if query else "")

    def endpoint(self, options: StoreOptions) -> str | None:
        """Where the service is, from the URL, else from the connection; None for the provider's own.

        Raises:
            InvalidArgumentError: The connection's holds credentials.
        """
        found = self.options.get("endpoint") or options.endpoint_url or None
        if found:
            refuse_credentials(found)
        return found


def refuse_credentials(url: str) -> None:
    """Refuses a URL that holds credentials, without repeating it.

    Raises:
        InvalidArgumentError: It does.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidArgumentError(f"the {parts.scheme} URL of the store holds credentials", hint=_HINT_CREDENTIALS)
