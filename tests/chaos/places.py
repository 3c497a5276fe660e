"""Where messages and results are: the kinds of stores that a row runs on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

import pytest
from msgspec import Struct, structs

from chaos.scale import Scale
from chaos.vhost import Vhost

#: What has the messages. Results are there too, but with RabbitMQ: then they are on a Redis of their own. An
#: `own-rabbit` is a node that a row may restart, fill or freeze, where `rabbit` is one that many tests share.
Kind: TypeAlias = Literal["redis", "sqlite", "rabbit", "own-rabbit"]


def on(*kinds: Kind, soak: Sequence[Kind] = ()) -> pytest.MarkDecorator:
    """Have a row run on these, and by `make soak` alone on some more; without it, a row runs on Redis.

    The fixtures follow.
    """
    return pytest.mark.parametrize("kind", [*kinds, *(pytest.param(kind, marks=pytest.mark.soak) for kind in soak)])


class Places(Struct, frozen=True, kw_only=True):
    """Where messages and results are, without any proxy."""

    broker: str
    backend: str
    #: Folder of the Redis that has both: its file is looked through for what was acknowledged before it was stored.
    trace: Path | None = None
    #: Where the messages are when they are on RabbitMQ.
    vhost: Vhost | None = None

    @property
    def overlapping(self) -> bool:
        """What a connection held begins elsewhere as soon as that ends, while it still runs where it was."""
        return self.vhost is not None

    def comes_back(self, scale: Scale) -> float:
        """Seconds until all that a dead host held has begun elsewhere, when nobody hands it back."""
        # RabbitMQ has no leases: what a connection held comes back when that ends.
        return scale.lease + 2 if self.vhost is None else scale.slack

    def misses(self, scale: Scale) -> float:
        """Seconds until who stands still has lost what he held, where the places are `impatient`."""
        # RabbitMQ ends a connection in the third interval that passes without a heartbeat.
        return scale.lease + 2 if self.vhost is None else 3 * scale.network_timeout + 1

    def behind(self, port: int) -> Self:
        """The same through a proxy before what has the messages, and before results that are there too."""
        broker = _at(self.broker, port)
        return structs.replace(self, broker=broker, backend=self.backend if self.vhost else broker)

    def impatient(self, scale: Scale) -> Self:
        """With connections that are known to be dead as soon as calls are: Redis is told that by calls alone."""
        if self.vhost is None:
            return self
        return structs.replace(self, broker=f"{self.broker}?heartbeat={scale.network_timeout:.0f}")


def _at(url: str, port: int) -> str:
    """The same place at another port of this machine."""
    return url.replace(f":{urlsplit(url).port}", f":{port}")
