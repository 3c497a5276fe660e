"""What is acknowledged before it is stored is seen on the wire."""

from __future__ import annotations

from pamqp import commands
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from chaos.proxy import Proxy
from chaos.wire import Wire
from servers import RedisServer
from waiting import until


def delivery(tag: int, task_id: str) -> bytes:
    header = ContentHeader(0, 1, commands.Basic.Properties(correlation_id=task_id))
    return marshal(commands.Basic.Deliver("c", tag, False, "", "celery"), 1) + marshal(header, 1)


async def test_an_acknowledgement_overtakes_the_result(server: RedisServer) -> None:
    """Whether it is one of its own or one for all up to a delivery; and none where nothing is wrong."""
    async with Proxy(server.port) as proxy, Wire(proxy, server) as wire:

        def store(task_id: str, status: str = "SUCCESS") -> None:
            server.command("SET", f"celery-task-meta-{task_id}", f'{{"status": "{status}", "result": 1}}')

        def acknowledge(tag: int, *, multiple: bool = False) -> None:
            proxy.tap("connection", "requests", marshal(commands.Basic.Ack(tag, multiple), 1))

        async def stored(count: int) -> None:
            await until(lambda: len(wire.stored) == count)

        proxy.tap("connection", "requests", b"AMQP\x00\x00\x09\x01")
        tasks = ["good", "hasty", "skipped", "started", "late", "kept"]
        coming = b"".join(delivery(tag, task_id) for tag, task_id in enumerate(tasks, 1))
        for position in range(0, len(coming), 7):  # in whatever pieces
            proxy.tap("connection", "replies", coming[position : position + 7])
        store("good")
        await stored(1)
        acknowledge(1)
        acknowledge(2)
        store("hasty")
        store("started", "STARTED")
        store("late")
        await stored(3)
        acknowledge(5, multiple=True)
        assert wire.acknowledged.keys() == {"good", "hasty", "skipped", "started", "late"}
        assert wire.acknowledged_unstored() == {"hasty", "skipped", "started"}
