"""The application on Celery."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain, chord

from . import environment
from .sender import SENDERS, CanvasSender, in_threads

# Any: Celery says little of its types.
app: Any = Celery("benchmark", broker=environment.URL, backend=environment.URL if environment.RESULTS else None)
app.conf.update(task_ignore_result=not environment.RESULTS, broker_connection_retry_on_startup=True)
CONFIRMS = environment.URL.startswith("amqp")
if CONFIRMS:
    app.conf.update(broker_transport_options={"confirm_publish": True}, broker_pool_limit=SENDERS)


@app.task
def nothing() -> None: ...


@app.task
def mark(name: str) -> None:
    environment.mark(name)


@app.task
def gather(results: list[None], name: str) -> int:
    environment.mark(name)
    return len(results)


@app.task(bind=True)
def spread(self: Any, size: int, name: str) -> None:
    self.replace(chord([nothing.s() for _ in range(size)], gather.s(name=name)))


def _send(share: int) -> None:
    for _ in range(share):
        nothing.delay()


class CelerySender:
    """Blocks in each method: Celery's client has no coroutines."""

    async def singles(self, count: int) -> None:
        if CONFIRMS:  # one thread would wait for each
            in_threads(_send, count)
        else:
            _send(count)

    async def batch(self, count: int) -> None:
        if CONFIRMS:  # nor is there a batch of confirms
            await self.singles(count)
            return
        with app.producer_pool.acquire(block=True) as producer:
            for _ in range(count):
                nothing.apply_async(producer=producer)

    async def mark(self, name: str) -> None:
        mark.delay(name)

    async def round_trip(self) -> None:
        nothing.delay().get(timeout=10)

    async def chord(self, size: int, name: str) -> None:
        chord([nothing.s() for _ in range(size)])(gather.s(name=name))

    async def replaced(self, size: int, name: str) -> None:
        spread.delay(size, name)

    async def chain(self, length: int, name: str) -> None:
        chain(*(nothing.si() for _ in range(length)), mark.si(name)).apply_async()

    async def close(self) -> None:
        app.close()


async def sender() -> CanvasSender:
    return CelerySender()
