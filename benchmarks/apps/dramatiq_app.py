"""The application on dramatiq and RabbitMQ."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from . import environment
from .sender import Sender, in_threads

broker = RabbitmqBroker(url=environment.URL, confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor
def nothing() -> None: ...


@dramatiq.actor
def mark(name: str) -> None:
    environment.mark(name)


def _send(share: int) -> None:
    for _ in range(share):
        nothing.send()


class DramatiqSender:
    """Blocks in each method: dramatiq's client has no coroutines. Each thread has a connection."""

    async def singles(self, count: int) -> None:
        in_threads(_send, count)

    async def batch(self, count: int) -> None:
        await self.singles(count)  # there is no other way

    async def mark(self, name: str) -> None:
        mark.send(name)

    async def round_trip(self) -> None:
        raise NotImplementedError("it has no results on RabbitMQ")

    async def close(self) -> None:
        broker.close()


async def sender() -> Sender:
    return DramatiqSender()
