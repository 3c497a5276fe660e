"""What kind of server answers, and whether it will do."""

from __future__ import annotations

import logging

from msgspec import Struct

from asyncq.errors import ConfigurationError

from .link import Link

__all__ = ["ServerInfo", "check_server"]

logger = logging.getLogger(__name__)

#: ZMSCORE, ZRANGE … BYSCORE and BLMOVE came with it, and Celery's own driver needs it too.
_OLDEST = (6, 2)


class ServerInfo(Struct, frozen=True):
    """What `INFO` says, so far as it matters here. None: the server doesn't say."""

    version: tuple[int, ...] | None
    #: What becomes of keys when the memory is full.
    eviction: str | None
    #: Every write goes to a file too, and not only now and then a snapshot.
    append_only: bool | None


async def check_server(link: Link) -> ServerInfo:
    """Connect and look at the server. Warns of one that drops keys when it is full.

    Raises the driver's connection error, and ConfigurationError when the server is too old.
    """
    fields: dict[str, str] = {}
    for answer in await link.calls([("INFO", "server"), ("INFO", "memory"), ("INFO", "persistence")]):
        if isinstance(answer, link.errors.connection | ConfigurationError):
            raise answer
        if isinstance(answer, bytes):  # else an access list keeps INFO from us, and the version stays unknown
            lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
            fields |= {name: value for name, _, value in lines}
    numbers = fields.get("redis_version", "").split(".")
    version = tuple(map(int, numbers)) if all(number.isdigit() for number in numbers) else None
    address = link.endpoint.address
    if version is not None and version < _OLDEST:
        raise ConfigurationError(f"Redis at {address} is {fields['redis_version']}; asyncq needs 6.2 or newer")
    eviction = fields.get("maxmemory_policy")
    if eviction is not None and eviction != "noeviction":
        logger.warning(
            "Redis at %s may drop messages and leases when it is full: its maxmemory-policy is %s, not noeviction",
            address,
            eviction,
        )
    aof = fields.get("aof_enabled")
    return ServerInfo(version, eviction, None if aof is None else aof.strip() == "1")
