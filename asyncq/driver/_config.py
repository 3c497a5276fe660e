"""What a driver is made of: its address, clocks, dice and options."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from msgspec import Struct, field


class Clock(Protocol):
    """Time as an argument."""

    def monotonic(self) -> float:
        """Seconds since some point in the past; never jumps. For durations."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 (UTC); may jump. For dates."""
        ...


class Environment(Struct, frozen=True):
    """What differs from run to run, in one argument: clocks, dice, ids."""

    clock: Clock
    random: random.Random
    #: Makes a task id (UUID 4 as dashed text, unless a test says otherwise).
    new_id: Callable[[], str]


class DriverConfig(Struct, frozen=True, kw_only=True):
    """All that a driver is told. `repr` shows no URL, since URLs carry passwords."""

    url: str
    #: Name of the app, for client names on the server and for default places.
    app: str
    environment: Environment
    #: Celery's `broker_transport_options` or `result_backend_transport_options`. Unknown keys are a ConfigurationError
    #: that names them.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: Celery's `broker_use_ssl` / `redis_backend_use_ssl`: None means "as the URL says".
    tls: Mapping[str, Any] | bool | None = None
    #: Seconds that one call on the network may take, connecting included.
    timeout: float = 10.0
    #: Belongs to one app: where in-process drivers keep what their instances share.
    shared: MutableMapping[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return f"DriverConfig(scheme={self.url.partition(':')[0]!r}, app={self.app!r})"
