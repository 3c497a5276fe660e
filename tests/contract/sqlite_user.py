"""A process that uses a SQLite broker, for tests: `python -m contract.sqlite_user '{"url": …, "role": …}'`.

What it has done stands in its journal, a line a message, written when the broker had answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from asyncq._clock import system_environment
from asyncq.driver import Ack, Broker, ConsumerOptions, DriverConfig, Publication, Queue
from asyncq.protocol import WireMessage, decode_envelope
from asyncq_brokers.sqlite import SQLiteBroker

QUEUE = Queue(name="celery")


def make_broker(url: str) -> Broker:
    return SQLiteBroker(DriverConfig(url=url, app="contract", environment=system_environment()))


class Journal:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, bodies: Iterable[bytes]) -> None:
        os.write(self._file, b"".join(body + b"\n" for body in bodies))


async def publish(broker: Broker, journal: Journal) -> None:
    """Send numbers until killed."""
    print("ready")
    for start in range(0, 10**9, 7):
        bodies = [b"%d" % number for number in range(start, start + 7)]
        await broker.publish(
            [Publication(message=WireMessage(body=body, headers={}), queue="celery") for body in bodies]
        )
        journal.write(bodies)


async def drain(broker: Broker, journal: Journal) -> None:
    """Take and acknowledge until nothing is left for anybody."""
    consumer = broker.consume([QUEUE], ConsumerOptions(node=f"{os.getpid()}@contract"))
    print("ready")
    while True:
        depth = await broker.depth("celery")
        if not depth.ready and not depth.in_flight:
            return
        try:
            async with asyncio.timeout(0.5):
                batch = await consumer.receive(10)
        except TimeoutError:
            continue
        journal.write(decode_envelope(delivery.content).body for delivery in batch)  # pyright: ignore[reportArgumentType]
        assert await consumer.settle([Ack(delivery) for delivery in batch]) == []


async def hold(broker: Broker, journal: Journal, lease: float) -> None:
    """Take ten and keep them, until killed."""
    consumer = broker.consume([QUEUE], ConsumerOptions(node="holder@contract", lease=lease))
    await consumer.receive(10)
    print("ready")
    await asyncio.Event().wait()


async def main(config: dict[str, Any]) -> None:
    broker = make_broker(config["url"])
    journal = Journal(config["journal"])
    await broker.open()
    match config["role"]:
        case "publish":
            await publish(broker, journal)
        case "drain":
            await drain(broker, journal)
        case _:
            await hold(broker, journal, config["lease"])
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
