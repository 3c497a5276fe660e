"""What the drivers without a server can do: `python -m benchmarks.local_drivers`.

Messages a second for each step in batches of 100 and of one; the time from a send in one process to its receipt in
another; and what an idle consumer costs.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from asyncq._clock import system_environment
from asyncq.driver import Ack, Broker, Consumer, ConsumerOptions, DriverConfig, Publication, Queue, StoredResult
from asyncq.protocol import (
    Properties,
    ResultRecord,
    TaskMessage,
    WireMessage,
    decode_envelope,
    encode_result,
    encode_task,
)
from asyncq_backends.sqlite import SQLiteBackend
from asyncq_brokers.memory import MemoryBroker
from asyncq_brokers.sqlite import SQLiteBroker

QUEUE = Queue(name="celery")
ENVIRONMENT = system_environment()


def config(url: str, **options: str) -> DriverConfig:
    return DriverConfig(url=url, app="bench", environment=ENVIRONMENT, options=options)


def consumer_of(broker: Broker) -> Consumer:
    return broker.consume([QUEUE], ConsumerOptions(node="bench@host"))


def publication() -> Publication:
    task_id = ENVIRONMENT.new_id()
    message = encode_task(TaskMessage(task="bench.noop", id=task_id, properties=Properties(correlation_id=task_id)))
    return Publication(message=message, queue="celery")


async def rate(count: int, calls: list[Callable[[], Awaitable[Any]]]) -> str:
    started = time.perf_counter()
    for call in calls:
        await call()
    return f"{count / (time.perf_counter() - started):>10,.0f}/s"


async def throughput(name: str, broker: Broker, size: int, batches: int) -> None:
    """Publish, claim, extend and acknowledge, each for all batches."""
    await broker.open()
    consumer = consumer_of(broker)
    count = size * batches
    outgoing = [[publication() for _ in range(size)] for _ in range(batches)]
    taken: list[Any] = []

    async def claim() -> None:
        taken.append(await consumer.receive(size))

    figures = {
        "publish": await rate(count, [lambda batch=batch: broker.publish(batch) for batch in outgoing]),
        "claim": await rate(count, [claim] * batches),
        "extend": await rate(count, [lambda batch=batch: consumer.extend(batch) for batch in taken]),
        "ack": await rate(
            count, [lambda batch=batch: consumer.settle([Ack(delivery) for delivery in batch]) for batch in taken]
        ),
    }
    await broker.close()
    print(f"{name:<16} batches of {size:>3}", *(f"{step} {figure}" for step, figure in figures.items()))


async def results(name: str, backend: SQLiteBackend, size: int, batches: int) -> None:
    """Store and get, each for all batches."""
    await backend.open()
    batch: list[list[StoredResult]] = []
    for _ in range(batches):
        records = [ResultRecord(task_id=ENVIRONMENT.new_id(), status="SUCCESS", result=3) for _ in range(size)]
        batch.append([StoredResult(task_id=r.task_id, record=encode_result(r), status="SUCCESS") for r in records])
    stored = await rate(size * batches, [lambda each=each: backend.store(each) for each in batch])
    read = await rate(
        size * batches, [lambda each=each: backend.get([result.task_id for result in each]) for each in batch]
    )
    await backend.close()
    print(f"{name:<16} batches of {size:>3} store {stored} get {read}")


async def listen(path: str, rounds: int) -> None:
    """In a process of its own: tell how long each message was on its way, and the cost of an idle wait."""
    broker = SQLiteBroker(config(f"sqlite:///{path}"))
    await broker.open()
    consumer = consumer_of(broker)
    print("ready", flush=True)
    delays: list[float] = []
    for _ in range(rounds):
        (delivery,) = await consumer.receive(1)
        assert isinstance(delivery.content, bytes)
        delays.append(ENVIRONMENT.clock.wall() - float(decode_envelope(delivery.content).body))
        await consumer.settle([Ack(delivery)])

    async def maintain() -> None:
        while True:  # noqa: ASYNC110 - it says how long
            await asyncio.sleep(await consumer.maintain())

    idle = [asyncio.create_task(maintain()), asyncio.create_task(consumer.receive(1))]
    busy, started = time.process_time(), time.perf_counter()
    await asyncio.sleep(10)
    share = (time.process_time() - busy) / (time.perf_counter() - started)
    for task in idle:
        task.cancel()
    await asyncio.wait(idle)
    await broker.close()
    print(json.dumps({"median": statistics.median(delays), "idle": share}))


async def wake_up(path: str, rounds: int = 200) -> None:
    """Send to a process that waits, now and then."""
    broker = SQLiteBroker(config(f"sqlite:///{path}"))
    await broker.open()
    command = [sys.executable, "-m", "benchmarks.local_drivers", "listen", path, str(rounds)]
    listener = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert listener.stdout is not None
    assert await listener.stdout.readline() == b"ready\n"
    for _ in range(rounds):
        await asyncio.sleep(0.02)
        message = WireMessage(body=repr(ENVIRONMENT.clock.wall()).encode(), headers={})
        await broker.publish([Publication(message=message, queue="celery")])
    told = json.loads(await listener.stdout.readline())
    await listener.wait()
    await broker.close()
    print(
        f"sqlite           from send to receipt: median {told['median'] * 1e3:.1f} ms; idle {told['idle']:.2%} of a CPU"
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("normal", "full"):
            for size, batches in ((100, 100), (1, 500)):
                name = f"sqlite {synchronous}"
                options = config(f"sqlite:///{folder}/{synchronous}-{size}.db", synchronous=synchronous)
                await throughput(name, SQLiteBroker(options), size, batches)
                await results(name, SQLiteBackend(options), size, batches)
        await throughput("memory", MemoryBroker(config("memory://")), 100, 100)
        await wake_up(str(Path(folder) / "wake.db"))


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[2], int(sys.argv[3])) if sys.argv[1:2] == ["listen"] else main())
