"""The Redis result backend: Celery's keys and channels, shared with Celery's clients and workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import RedisBackend

if TYPE_CHECKING:
    from asyncq.driver import Coordinating, DriverConfig, Joining, ResultBackend

    _backend: Callable[[DriverConfig], ResultBackend] = RedisBackend
    _coordinating: Callable[[DriverConfig], Coordinating] = RedisBackend
    _joining: Callable[[DriverConfig], Joining] = RedisBackend

__all__ = ["RedisBackend"]
