"""The verbs that the tests on RabbitMQ are written in."""

from __future__ import annotations

from typing import Any, Protocol

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq_brokers.amqp import AmqpBroker


class NewBroker(Protocol):
    """Makes a broker on the test's virtual host and opens it; closed at the end of the test."""

    async def __call__(self, *, timeout: float = 10.0, **options: Any) -> AmqpBroker: ...


def make_broker(url: str, *, timeout: float = 10.0, **options: Any) -> AmqpBroker:
    """A broker that is not open yet; the caller closes it."""
    return AmqpBroker(
        DriverConfig(url=url, app="tests", environment=system_environment(), timeout=timeout, options=options)
    )
