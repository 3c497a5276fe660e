"""The Redis broker: queues on Redis in kombu's format, shared with Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .broker import RedisBroker

if TYPE_CHECKING:
    from asyncq.driver import Broker, DriverConfig

    def _conforms(config: DriverConfig) -> Broker:  # pyright: ignore[reportUnusedFunction] - read by the type checker
        return RedisBroker(config)


__all__ = ["RedisBroker"]
