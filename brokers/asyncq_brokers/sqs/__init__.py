"""The SQS broker: queues on Amazon SQS in kombu's format, shared with Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .broker import SqsBroker

if TYPE_CHECKING:
    from asyncq.driver import Broker, DriverConfig, Permitted, TagReleasing

    _broker: Callable[[DriverConfig], Broker] = SqsBroker
    _permitted: Callable[[DriverConfig], Permitted] = SqsBroker
    _releasing: Callable[[DriverConfig], TagReleasing] = SqsBroker

__all__ = ["SqsBroker"]
