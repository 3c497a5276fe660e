"""Whose AWS it is, and where: from URLs as Celery writes them."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from asyncq.errors import ConfigurationError

__all__ = ["Account", "UrlParts", "read_query", "split_url"]


class Account(Struct, frozen=True, kw_only=True):
    """One service in one region, and who asks. What is None comes from AWS's usual chain.

    That chain is: environment, profile, role, container, instance metadata. `repr` shows no secret.
    """

    service: str
    region: str | None = None
    #: Of a server of one's own, or of a VPC; None is AWS's public one.
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    #: A role to take on before anything is asked, by its ARN.
    role: str | None = None
    #: Seconds that the credentials of a role last.
    role_duration: int = 900

    def __repr__(self) -> str:
        return f"Account({self.address!r})"

    @property
    def address(self) -> str:
        """Where it is, for people."""
        if self.endpoint_url is not None:
            return self.endpoint_url
        return f"{self.service} in {self.region}" if self.region else self.service


class UrlParts(NamedTuple):
    """A URL taken apart; no part is still percent-encoded. `repr` shows no secret."""

    user: str | None
    password: str | None
    #: None where there is none.
    host: str | None
    port: int | None
    path: str
    query: str

    def __repr__(self) -> str:
        return f"UrlParts({self.host!r}, {self.port!r}, {self.path!r})"


def split_url(url: str) -> UrlParts:
    """Take a URL apart. Raises ConfigurationError, which shows nothing of it but the scheme."""
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    # A secret key has slashes in it, which end the host when they stand as they are: the rest of the secret is a port,
    # or else a path, in which the URL's @ is found.
    if parts is None or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ConfigurationError(
            f"the {scheme}:// URL can't be read; key and secret must be percent-encoded "
            "(urllib.parse.quote(secret, safe=''))"
        )
    user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    if (user is None) != (password is None):
        raise ConfigurationError(f"the {scheme}:// URL must have both a key and a secret, or neither")
    return UrlParts(user, password, parts.hostname, port, unquote(parts.path), parts.query)


def read_query(query: str) -> dict[str, str]:
    """The options of a URL, by name."""
    return dict(parse_qsl(query, keep_blank_values=True))
