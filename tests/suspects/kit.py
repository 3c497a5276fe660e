"""Sends, takes and gives back as clients and dead workers do, and looks at what became of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncq import AsyncQ, AsyncResult, Signature
from asyncq._coordination import coordination_of
from asyncq._flight import Flight, create, read_brief, read_flights
from asyncq._suspicion import Conviction, Suspicion, convict, read_files, write_suspicions
from asyncq.driver import ConsumerOptions, Coordination, Queue, Requeue
from asyncq.protocol import DeadLetter, ResultRecord, decode_result, read_dead_letter
from chaos.ledger import Ledger
from processes import Program

QUEUE = "celery"

#: Seconds.
LEASE = 60.0


class Kit:
    """A client of the shop, and an operator's view of its servers."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.url = url
        self.ledger = ledger
        self.app = AsyncQ("suspects", broker=url, backend=url)
        self.broker = self.app.make_broker()
        backend = self.app.make_backend()
        assert backend is not None
        self.backend = backend
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.app)
        for driver in (self.broker, self.backend):
            await driver.open()
            self._stack.push_async_callback(driver.close)
        await self.broker.declare([Queue(name=QUEUE)])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def coordination(self) -> Coordination:
        found = coordination_of(self.backend, self.broker)
        assert found is not None
        return found

    async def send(self, task: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        return await self.app.send_task(f"suspects.shop.{task}", args, **options)

    def signature(self, task: str, *args: Any, immutable: bool = False) -> Signature[Any]:
        """For workflows."""
        call = {"task": f"suspects.shop.{task}", "args": [*args], "kwargs": {}, "options": {}}
        return self.app.signature(call | {"subtask_type": None, "immutable": immutable})

    async def send_again(self, task: str, *args: Any, deaths: Sequence[str] = (), **options: Any) -> AsyncResult[Any]:
        """Send, and have it delivered once in vain; `deaths` speak against it. So is all that is on the queue."""
        result = await self.send(task, *args, **options)
        await self.deliver_in_vain((await self.broker.depth(QUEUE)).ready)
        if deaths:
            await write_suspicions(self.coordination, [(result.id, Suspicion(deaths=list(deaths)))])
        return result

    async def deliver_in_vain(self, number: int) -> None:
        """Take so many from the queue and put them back, as after a worker's death."""
        consumer = self.broker.consume([Queue(name=QUEUE)], ConsumerOptions(node="dead@host", lease=LEASE))
        taken = 0
        while taken < number:
            deliveries = await consumer.receive(number - taken)
            taken += len(deliveries)
            await consumer.settle([Requeue(delivery) for delivery in deliveries])
        await consumer.close()

    async def convict(self, result: AsyncResult[Any], *, limit: float = 5.0) -> None:
        await convict(self.coordination, result.id, Conviction("it blocked its worker", limit))

    async def file_of(self, result: AsyncResult[Any]) -> tuple[Conviction | None, Suspicion | None]:
        [known] = await read_files(self.coordination, [result.id])
        return known

    async def record(self, result: AsyncResult[Any]) -> ResultRecord:
        """Wait for the final record."""
        async with asyncio.timeout(20), self.backend.watch([result.id]) as changes:
            async for _, raw in changes:
                record = decode_result(raw)
                if record.status in {"SUCCESS", "FAILURE", "REVOKED"}:
                    return record
        raise AssertionError("a watch ended")

    async def dead(self) -> list[DeadLetter]:
        return [read_dead_letter(stored.content) for stored in await self.broker.peek(QUEUE, "dead")]

    async def is_settled(self) -> bool:
        """Nothing waits, and nothing is held."""
        depth = await self.broker.depth(QUEUE)
        return (depth.ready, depth.in_flight, depth.parked) == (0, 0, 0)

    def worker(self, *, memory: int | None = None, **options: Any) -> Program:
        """An embedded worker in a process of its own."""
        config: dict[str, Any] = {"options": {"lease": LEASE, **options}}
        if memory is not None:
            config["memory"] = memory
        return Program("suspects.worker_program", config)


async def rescue(brief: bytes, *commands: Mapping[str, Any], dies_after: str | None = None) -> list[str]:
    """What a rescuer answers, as the supervisor starts it; or one that dies when it has done a step."""
    program = ["asyncq.cli._rescue"] if dies_after is None else ["suspects.dying_rescuer", dies_after]
    lines = [base64.b64encode(brief), *(json.dumps(command).encode() for command in commands)]
    path = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", *program),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    said, _ = await asyncio.wait_for(process.communicate(b"".join(line + b"\n" for line in lines)), 30)
    assert process.returncode == (0 if dies_after is None else 9)
    return said.decode().splitlines()


def bury(worker: Watched, *, suspect: bool, culprit: int = 0) -> dict[str, Any]:
    """The command for a dead worker."""
    return {"do": "bury", "node": worker.node, "flights": worker.flights, "suspect": suspect, "culprit": culprit}


class Watched:
    """A worker that tells how it goes in a flight table, as under a supervisor; the test is the supervisor."""

    def __init__(self, kit: Kit, name: str, **options: Any) -> None:
        self.node = f"{name}@{socket.gethostname()}"
        self.table = create()
        self._control, self._ours = os.pipe()
        config = {"options": {"lease": LEASE, "name": name, **options}, "table": self.table, "control": self._control}
        self.program = Program("suspects.worker_program", config, descriptors=(self.table, self._control))

    async def __aenter__(self) -> Self:
        await self.program.__aenter__()
        os.close(self._control)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.program.__aexit__(kind, error, traceback)
        os.close(self._ours)
        os.close(self.table)

    @property
    def brief(self) -> bytes:
        return read_brief(self.table)

    @property
    def flights(self) -> list[Flight]:
        return read_flights(self.table)
