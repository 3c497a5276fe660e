"""Where results are: `dynamodb://[KEY:SECRET@]REGION[:PORT][/TABLE][?read=N&write=N&ttl_seconds=N]` (dynamodb.md)."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import Account, read_number, read_query, split_url

__all__ = ["BackendOptions", "read_config"]

logger = logging.getLogger(__name__)

_SETTING = "result_backend_transport_options"

#: Options of brokers that Celery's documentation has users repeat here.
_OF_BROKERS = frozenset({"visibility_timeout", "polling_interval", "wait_time_seconds", "queue_name_prefix"})


class BackendOptions(Struct, frozen=True, kw_only=True):
    """How results lie in the table."""

    table: str = "celery"
    #: Units a second of a table that is created here; None bills by request.
    read_units: int | None = None
    write_units: int | None = None
    #: Seconds that an item lives, whatever the result's own setting says; negative: for ever. None: as the result says.
    ttl_seconds: int | None = None
    #: The table of what workers and clients share beside results; None: there is none, nor what needs it.
    facts_table: str | None = "celery-asyncq"
    #: Put before every key, with an underscore unless it ends in one of `: _ - .`.
    global_keyprefix: str = ""

    @property
    def prefix(self) -> str:
        """What really stands before a key."""
        joined = not self.global_keyprefix or self.global_keyprefix[-1] in ":_-."
        return self.global_keyprefix if joined else f"{self.global_keyprefix}_"


def read_config(config: DriverConfig) -> tuple[Account, BackendOptions]:
    """Read URL and options. Raises ConfigurationError that names what is wrong."""
    parts = split_url(config.url)
    options = dict(config.options)
    endpoint, region = options.pop("endpoint_url", None), options.pop("region", None)
    if parts.host is not None:
        if _is_address(parts.host):
            endpoint = endpoint or f"http://{parts.host}:{parts.port or 8000}"
            region = region or "us-east-1"
        else:
            region = parts.host
    account = Account(
        service="dynamodb",
        region=region,
        endpoint_url=endpoint,
        access_key=parts.user,
        secret_key=parts.password,
    )
    prefix = options.pop("global_keyprefix", "")
    table = parts.path.strip("/") or "celery"
    facts = options.pop("facts_table", f"{table}-asyncq")
    if facts is not False and (not isinstance(facts, str) or not facts):
        raise ConfigurationError(f"{_SETTING}['facts_table']: must be the name of a table, or False")
    for name in sorted(_OF_BROKERS & options.keys()):
        logger.warning("%s[%r] has no effect: it is an option of the broker", _SETTING, name)
        del options[name]
    if options:
        known = "endpoint_url, facts_table, global_keyprefix, region"
        raise ConfigurationError(
            f"{_SETTING}: unknown for DynamoDB: {', '.join(sorted(map(repr, options)))}; known are {known}"
        )
    if not isinstance(prefix, str):
        raise ConfigurationError(f"{_SETTING}['global_keyprefix']: must be text")
    query = _read_query(parts.query)
    return account, BackendOptions(table=table, facts_table=facts or None, global_keyprefix=prefix, **query)


#: Option of a URL -> field, and the least that it can be.
_QUERY = {"read": ("read_units", 1), "write": ("write_units", 1), "ttl_seconds": ("ttl_seconds", -(2**31))}


def _read_query(text: str) -> dict[str, Any]:  # Any: each field has its own type
    query = read_query(text)
    found: dict[str, Any] = {}
    for name, (field, least) in _QUERY.items():
        if name in query:
            try:
                found[field] = read_number(query.pop(name), least=least)
            except ValueError as error:
                raise ConfigurationError(f"dynamodb:// {name}: {error}") from None
    if query:
        raise ConfigurationError(
            f"dynamodb:// has unknown options: {', '.join(sorted(query))}; known are read, ttl_seconds, write"
        )
    if ("read_units" in found) != ("write_units" in found):  # Celery's default is 1 for the other
        found = {"read_units": 1, "write_units": 1, **found}
    return found


def _is_address(host: str) -> bool:
    """Whether a URL's host is a server of one's own rather than a region: as Celery tells them apart."""
    if host == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
