"""A worker on the memory drivers, and what a test needs to send to it and look at it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, cast

import msgspec

from asyncq._clock import system_environment
from asyncq._context import Context
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq._producer import Producer
from asyncq._settings_sources import load_settings
from asyncq.driver import Broker, DriverConfig, Environment, Publication, Queue, QueueDepth, ResultBackend, Stored
from asyncq.protocol import (
    READY_STATES,
    ResultRecord,
    TaskMessage,
    WireMessage,
    decode_envelope,
    decode_result,
    encode_task,
)
from asyncq.worker import Worker, WorkerSetup
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker

QUEUE = "celery"


class Bench:
    """Owns one in-process store; makes workers on it, and talks to it as a client does.

    It gives up waiting after `patience` seconds of the running loop.
    """

    def __init__(self, environment: Environment | None = None, *, patience: float = 10.0) -> None:
        self.environment = system_environment() if environment is None else environment
        self.patience = patience
        self.config = DriverConfig(url="memory://", app="bench", environment=self.environment)
        self.tasks: dict[str, TaskDefinition] = {}
        self.broker: Broker = MemoryBroker(self.config)
        self.backend: ResultBackend = MemoryBackend(self.config)
        self._sent = 0

    def task(self, fn: Callable[..., Any], **options: Any) -> str:
        """Register a function; return its name."""
        parameters = list(inspect.signature(fn).parameters.values())
        takes_context = bool(parameters) and parameters[0].annotation in {Context, "Context"}
        name = fn.__name__
        self.tasks[name] = TaskDefinition(
            name=name,
            fn=fn,
            is_coroutine=inspect.iscoroutinefunction(fn),
            takes_context=takes_context,
            options=TaskOptions(**options),
        )
        return name

    def worker(self, **settings: Any) -> Worker:
        given: dict[str, Any] = {
            "broker": MemoryBroker(self.config),
            "backend": MemoryBackend(self.config),
            "queues": [Queue(name=QUEUE)],
            "environment": self.environment,
            "producer": Producer(load_settings({}), self.environment),
            "shutdown_timeout": 5.0,
        } | settings
        return Worker(WorkerSetup(app="bench", tasks=self.tasks, **given))

    async def send(
        self, task: str, *args: Any, queue: str = QUEUE, headers: dict[str, Any] | None = None, **fields: Any
    ) -> str:
        """Publish a call; keyword arguments are fields of the message."""
        self._sent += 1
        message = TaskMessage(task=task, id=f"id-{self._sent}", args=list(args), **fields)
        await self.publish(encode_task(message, headers=headers), queue=queue)
        return message.id

    async def publish(self, message: WireMessage, *, queue: str = QUEUE) -> None:
        await self.broker.publish([Publication(message=message, queue=queue)])

    async def final(self, task_id: str) -> ResultRecord:
        """Wait for the final record."""
        return (await self.states(task_id))[-1]

    async def states(self, task_id: str) -> list[ResultRecord]:
        """Follow a task; return its records up to the final one."""
        seen: list[ResultRecord] = []
        async with asyncio.timeout(self.patience), self.backend.watch([task_id]) as changes:
            async for _, raw in changes:
                seen.append(decode_result(raw))
                if seen[-1].status in READY_STATES:
                    break
        return seen

    async def record(self, task_id: str) -> ResultRecord | None:
        """The record of this moment."""
        [raw] = await self.backend.get([task_id])
        return None if raw is None else decode_result(raw)

    async def depth(self, queue: str = QUEUE) -> QueueDepth:
        return await self.broker.depth(queue)

    async def until(self, condition: Callable[[QueueDepth], bool], *, queue: str = QUEUE) -> QueueDepth:
        """Wait until the queue's depth is as wanted."""
        async with asyncio.timeout(self.patience):
            while not condition(depth := await self.broker.depth(queue)):
                await asyncio.sleep(0.005)
        return depth

    async def dead(self, queue: str = QUEUE) -> list[WireMessage]:
        return [_message(stored) for stored in await self.broker.peek(queue, "dead")]

    async def ready(self, queue: str = QUEUE) -> list[WireMessage]:
        return [_message(stored) for stored in await self.broker.peek(queue, "ready")]


def _message(stored: Stored) -> WireMessage:
    return stored.content if isinstance(stored.content, WireMessage) else decode_envelope(stored.content)


def body(message: WireMessage) -> list[Any]:
    return cast("list[Any]", msgspec.json.decode(message.body))


async def reaches(condition: Callable[[], bool]) -> None:
    """Wait until something that no event tells of has come true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
