"""The Redis broker: queues on Redis in kombu's format, shared with Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .broker import RedisBroker

if TYPE_CHECKING:
    from asyncq.driver import Broker, Coordinating, DriverConfig

    _broker: Callable[[DriverConfig], Broker] = RedisBroker
    _coordinating: Callable[[DriverConfig], Coordinating] = RedisBroker

__all__ = ["RedisBroker"]
