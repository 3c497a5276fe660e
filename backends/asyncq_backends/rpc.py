"""Results as replies: `rpc://` (results.md, section 9). No server keeps them; they go to whoever sent the task.

A worker publishes each record to the queue that the message's `reply_to` names. The sender consumes a queue of its own
and remembers what it hears, so only the process that sent a task can read its result, and only while it lives. Celery's
clients and workers do the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

from pamqp import commands

from asyncq.driver import BackendCapabilities, DriverConfig, StoredResult
from asyncq.errors import AsyncqError, BackendConnectionError, BackendError, DecodeError, EncodeError
from asyncq.protocol import READY_STATES, Properties, WireMessage
from asyncq_brokers._clients.amqp import (
    Channel,
    Incoming,
    Link,
    Outgoing,
    Outlet,
    decode_content,
    encode_content_header,
    encode_route,
    read_backend_config,
)

from ._records import status_of
from ._watcher import Watcher, Watchers

if TYPE_CHECKING:
    from asyncq.driver import Replying, ResultBackend

__all__ = ["RpcBackend"]

logger = logging.getLogger(__name__)

#: Records that are remembered; of more, the oldest go. Nobody can ask a server for them again.
_MOST_REMEMBERED = 20_000

#: Milliseconds that the reply queue outlives its last consumer: long enough for a reconnect, and no litter.
_QUEUE_EXPIRES = 300_000

#: Seconds between attempts to hear again: first and longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class RpcBackend:
    """Replies over the broker's own RabbitMQ: `DriverConfig.url` is the broker's."""

    capabilities = BackendCapabilities(shared=False, push=True)

    def __init__(self, config: DriverConfig) -> None:
        self._link = Link(read_backend_config(config), clock=config.environment.clock, timeout=config.timeout)
        self._random = config.environment.random
        self._queue = config.environment.new_id()
        #: Task id -> the newest record.
        self._records: dict[str, bytes] = {}
        self._versions = count()
        self._watchers = Watchers()
        self._outlet = Outlet(self._link)
        #: Consumes the reply queue, and does so again after each loss of the connection.
        self._hearing: asyncio.Task[None] | None = None
        #: Whether that is so has been seen; then why it is refused, if it is.
        self._known = asyncio.Event()
        self._refusal: AsyncqError | None = None

    @property
    def address(self) -> str:
        return f"rpc:// ({self._link.address})"

    @property
    def followed(self) -> int:
        """How many tasks are being watched."""
        return len(self._watchers.task_ids)

    async def open(self) -> None:
        await self._link.connected(self._link.deadline())

    async def close(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.wait([self._hearing])
        await self._link.close()
        self._watchers.end(BackendConnectionError("the rpc backend is closed"))

    async def reply_address(self) -> str:
        if self._hearing is None:
            self._link.refuse_if_closed()
            self._hearing = asyncio.create_task(self._keep_hearing())
        if not self._known.is_set():
            try:
                async with asyncio.timeout(self._link.timeout):
                    await self._known.wait()
            except TimeoutError:
                raise BackendConnectionError(f"no replies can be heard from {self._link.address}") from None
        if self._refusal is not None:
            raise BackendError(f"no replies can be heard from {self._link.address}: {self._refusal}")
        return self._queue

    # -- what workers do

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        """Send each to whoever asked for it. Nobody keeps it, so none is there already."""
        deadline = self._link.deadline()
        replies = [reply for result in results if (reply := _reply(result)) is not None]
        if replies:
            most = (await self._link.connected(deadline)).terms.body_max
            for reply in replies:
                if len(reply.body) > most:
                    raise BackendError(f"a record has {len(reply.body):,} bytes; RabbitMQ takes {most:,}")
            gone = await self._outlet.publish(replies, deadline)
            if gone:
                logger.debug("%d results have nobody any more who waits for them", len(gone))
        return [True] * len(results)

    # -- what senders do

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        await self._turn()
        return [self._records.get(task_id) for task_id in task_ids]

    @asynccontextmanager
    async def watch(self, task_ids: Sequence[str]) -> AsyncGenerator[AsyncIterator[tuple[str, bytes]]]:
        await self._turn()
        watcher = Watcher(task_ids)
        self._watchers.add(watcher)
        for task_id in watcher.task_ids:
            if (record := self._records.get(task_id)) is not None:
                watcher.tell(task_id, record, next(self._versions))
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    async def forget(self, task_ids: Sequence[str]) -> None:
        await self._turn()
        for task_id in task_ids:
            self._records.pop(task_id, None)

    async def _turn(self) -> None:
        """Let others run, as every call of a backend does."""
        await asyncio.sleep(0)
        self._link.refuse_if_closed()

    async def _keep_hearing(self) -> None:
        """Hear again after each loss of the connection, for ever; in no hurry where one follows the other."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            began = loop.time()
            try:
                await self._hear()
            except AsyncqError as error:
                if not isinstance(error, BackendConnectionError):
                    self._refusal = error
                    self._known.set()
                if pause == _FIRST_PAUSE:
                    logger.warning("No replies can be heard, will try again: %s", error)
            if loop.time() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await asyncio.sleep(self._random.uniform(0, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _hear(self) -> None:
        """Declare the reply queue and consume it, until that comes to an end. Raises AsyncqError."""
        deadline = self._link.deadline()
        channel = await self._link.channel(deadline)
        lost = asyncio.Event()
        channel.on_delivery = lambda incoming: self._take(channel, incoming)
        channel.on_end = lost.set
        channel.on_cancel = lambda _: lost.set()
        declare = commands.Queue.Declare(0, self._queue, durable=True, arguments={"x-expires": _QUEUE_EXPIRES})
        try:
            await channel.calls([declare, commands.Basic.Consume(0, self._queue, self._queue)], deadline)
            self._refusal = None
            self._known.set()
            await lost.wait()
        finally:
            channel.leave()

    def _take(self, channel: Channel, incoming: Incoming) -> None:
        """Anybody may write to the queue: what is no reply is no reason to hear nothing more."""
        channel.ack(incoming.delivery_tag)
        try:
            task_id = decode_content(incoming.header, incoming.body).properties.correlation_id
        except DecodeError as error:
            logger.warning("What came as a reply is none: %s", error)
        else:
            if task_id is not None:
                self._note(task_id, incoming.body)

    def _note(self, task_id: str, record: bytes) -> None:
        known = self._records.pop(task_id, None)
        if known is not None and _is_settled(known, record):
            record = known
        else:
            for watcher in self._watchers.of(task_id):
                watcher.tell(task_id, record, next(self._versions))
        self._records[task_id] = record
        if len(self._records) > _MOST_REMEMBERED:
            del self._records[next(iter(self._records))]


def _is_settled(known: bytes, record: bytes) -> bool:
    """A record comes late: it would take back a success, or an end."""
    before = status_of(known)
    return before == "SUCCESS" or (before in READY_STATES and status_of(record) not in READY_STATES)


def _reply(result: StoredResult) -> Outgoing | None:
    """The message that tells of a result; None where nobody can wait for it."""
    if not result.reply_to:
        return None
    properties = Properties(correlation_id=result.task_id, priority=0, delivery_mode=1)
    message = WireMessage(result.record, {}, properties, content_type=_content_type(result.record))
    try:
        return Outgoing(encode_route("", result.reply_to), encode_content_header(message), result.record)
    except EncodeError as error:
        logger.debug("Nobody can wait for a result of task %s: %s", result.task_id, error)
        return None


def _content_type(record: bytes) -> str:
    """A record is a mapping: its first byte tells JSON, msgpack and YAML apart."""
    if record[:1] == b"{":
        return "application/json"
    return "application/x-msgpack" if record[:1] >= b"\x80" else "application/x-yaml"


if TYPE_CHECKING:
    _backend: Callable[[DriverConfig], ResultBackend] = RpcBackend
    _replying: Callable[[DriverConfig], Replying] = RpcBackend
