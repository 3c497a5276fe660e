"""No tasks at all: aiormq as it is. As a program, a worker that acknowledges a hundred messages at a time."""

from __future__ import annotations

import asyncio
import signal

import aiormq
import aiormq.abc
import uvloop
from pamqp import commands

from . import environment
from .sender import Sender, shares

_QUEUE = "raw"
#: Messages of one acknowledgement, and how many may be out: as many as with asyncq and 100 coroutines.
_BATCH, _PREFETCH = 100, 200
_PERSISTENT = commands.Basic.Properties(delivery_mode=2)


class AiormqSender:
    def __init__(self, connection: aiormq.abc.AbstractConnection, channel: aiormq.abc.AbstractChannel) -> None:
        self._connection = connection
        self._channel = channel

    async def _send(self, body: bytes) -> None:
        await self._channel.basic_publish(body, routing_key=_QUEUE, properties=_PERSISTENT)

    async def singles(self, count: int) -> None:
        async def send(share: int) -> None:
            for _ in range(share):
                await self._send(b"0")

        await asyncio.gather(*map(send, shares(count)))

    async def batch(self, count: int) -> None:
        await self.singles(count)

    async def mark(self, name: str) -> None:
        await self._send(name.encode())

    async def round_trip(self) -> None:
        raise NotImplementedError("nobody answers")

    async def close(self) -> None:
        await self._connection.close()


async def sender() -> Sender:
    connection = await aiormq.connect(environment.URL)
    channel = await connection.channel(publisher_confirms=True)
    await channel.queue_declare(_QUEUE, durable=True)
    return AiormqSender(connection, channel)


async def work() -> None:
    connection = await aiormq.connect(environment.URL)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=_PREFETCH)
    seen = 0

    async def take(message: aiormq.abc.DeliveredMessage) -> None:
        nonlocal seen
        seen += 1
        name = message.body.decode()
        if name != "0":
            environment.mark(name)
        if seen % _BATCH == 0 or name != "0":
            assert message.delivery_tag is not None
            await channel.basic_ack(message.delivery_tag, multiple=True)

    await channel.queue_declare(_QUEUE, durable=True)
    await channel.basic_consume(_QUEUE, take)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await connection.close()


if __name__ == "__main__":
    uvloop.run(work())
