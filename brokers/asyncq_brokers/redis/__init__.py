"""The Redis broker: queues on Redis in kombu's format, shared with Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .broker import RedisBroker

if TYPE_CHECKING:
    from asyncq.driver import Broker, DriverConfig

    _broker: Callable[[DriverConfig], Broker] = RedisBroker

__all__ = ["RedisBroker"]
