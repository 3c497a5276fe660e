"""The AMQP broker: RabbitMQ's queues, shared with Celery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .broker import AmqpBroker

if TYPE_CHECKING:
    from asyncq.driver import Broker, DriverConfig

    _broker: Callable[[DriverConfig], Broker] = AmqpBroker

__all__ = ["AmqpBroker"]
