"""One connection to a Redis server, from birth to death, shared by any number of callers.

Requests go out in the order of `post`, all of one loop turn in one write; replies come back in that order and are
handed to whoever asked. Both directions run in tasks of the session's own, so that a caller who is cancelled leaves
nothing half read: its reply is dropped when it comes. (A connection that loses count of its replies gives one user
another user's data: redis-py#2624.) The first error, or a reply that is overdue, ends the session for everybody; there
is no second life.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from msgspec import structs
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from asyncq.errors import AsyncqError
from asyncq_brokers._clients.error_family import ErrorFamily, foreign_cancellation
from asyncq_brokers._clients.resolve import resolve

from .endpoint import AnyConnection, Endpoint
from .errors import translate

try:
    import hiredis
except ImportError:
    hiredis = None

__all__ = ["Command", "Session"]

Command: TypeAlias = tuple[str | bytes | int, ...]

#: A reply is whatever the server sends: str, int, None or nested lists, errors among them.
Reply: TypeAlias = Any

#: Three to four times cheaper for a batch than the packing in Python that redis.asyncio does even with hiredis.
_pack_fast: Callable[[Command], bytes] | None = None
if hiredis is not None:
    # Its stub types the argument as a tuple of one and leaves the return type out.
    _pack_fast = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]

#: Seconds that the closing of a connection may take: the other side may be frozen.
_CLOSE_TIMEOUT = 0.3


class _Pending:
    """A request whose replies are still to come."""

    __slots__ = ("deadline", "future", "missing", "replies")

    def __init__(self, missing: int, deadline: float, future: asyncio.Future[list[Reply]]) -> None:
        self.missing = missing
        self.deadline = deadline
        self.future = future
        self.replies: list[Reply] = []


class Session:
    """Pipelined requests over one connection; with `on_message`, published messages too."""

    def __init__(
        self,
        connection: AnyConnection,
        *,
        address: str,
        errors: ErrorFamily,
        on_message: Callable[[bytes, Any], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._address = address
        self._errors = errors
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pending: deque[_Pending] = deque()
        self._outbox: list[bytes] = []
        self._outbox_filled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._error: AsyncqError | None = None
        self._tasks = (self._loop.create_task(self._read()), self._loop.create_task(self._write()))
        for task in self._tasks:
            task.add_done_callback(self._task_done)

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        errors: ErrorFamily,
        on_message: Callable[[bytes, Any], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> Session:
        """Connect and log in. The caller sets the deadline.

        `on_message(channel, payload)` gets what is published on subscribed channels; `on_end` is called once, when
        the session is over for whatever reason but `close`.
        """
        try:
            connection = await _connect(endpoint)
        except BaseException as error:
            if isinstance(error, Exception) or foreign_cancellation(error):
                raise translate(error, errors, endpoint.address) from error
            raise
        return cls(connection, address=endpoint.address, errors=errors, on_message=on_message, on_end=on_end)

    @property
    def alive(self) -> bool:
        return self._error is None

    def ensure_alive(self) -> None:
        """Raise the driver's connection error if the session is over."""
        if self._error is not None:
            raise self._errors.connection(str(self._error)) from self._error

    def post(
        self, commands: Sequence[Command], deadline: float, *, replies: int | None = None
    ) -> asyncio.Future[list[Reply]]:
        """Send commands; returns a future of the list of their replies, in order, errors among them.

        `deadline` is loop time. `replies` is needed where a command has more replies than one (SUBSCRIBE). Raises the
        driver's connection error when the session is over.
        """
        self.ensure_alive()
        pending = _Pending(replies or len(commands), deadline, self._loop.create_future())
        self._outbox.extend(map(self._pack, commands))
        self._outbox_filled.set()
        self._pending.append(pending)
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check_deadline)
        return pending.future

    async def request(self, commands: Sequence[Command], deadline: float, *, replies: int | None = None) -> list[Reply]:
        """`post`, wait, and raise the first refusal, translated."""
        answers = await self.post(commands, deadline, replies=replies)
        for answer in answers:
            if isinstance(answer, Exception):
                raise translate(answer, self._errors, self._address)
        return answers

    def check(self, deadline: float) -> None:
        """Make sure that the connection still carries something both ways: else the session ends at the deadline."""
        self.post([("PING",)], deadline).cancel()

    async def close(self) -> None:
        """End the session; requests under way fail. May be called again."""
        self._fail(self._errors.connection(f"the connection to Redis at {self._address} was closed"), quietly=True)
        await asyncio.wait(self._tasks)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._connection.disconnect()
        except TimeoutError:
            pass  # a frozen server; the transport is closing and lets go of the socket by itself

    def _pack(self, command: Command) -> bytes:
        if _pack_fast is not None:
            return _pack_fast(command)
        return b"".join(self._connection.pack_command(*command))

    async def _read(self) -> None:
        read = cast("Callable[[], Awaitable[Reply]]", self._connection.read_response)
        on_message = self._on_message
        while True:
            try:
                reply: Reply = await read()
            except ResponseError as error:
                reply = error
            if on_message is not None and isinstance(reply, list) and reply[:1] == [b"message"]:
                on_message(*cast("list[Any]", reply)[1:])
                continue
            pending = self._pending[0]
            pending.replies.append(reply)
            pending.missing -= 1
            if not pending.missing:
                self._pending.popleft()
                if not pending.future.done():
                    pending.future.set_result(pending.replies)

    async def _write(self) -> None:
        while True:
            await self._outbox_filled.wait()
            self._outbox_filled.clear()
            data = b"".join(self._outbox)
            self._outbox.clear()
            await self._connection.send_packed_command(data, check_health=False)

    def _check_deadline(self) -> None:
        """Looks at the oldest request alone, since replies come in order."""
        self._timer = None
        if not self._pending or self._error is not None:
            return
        oldest = self._pending[0]
        if oldest.deadline <= self._loop.time():
            self._fail(self._errors.connection(f"Redis at {self._address} did not answer in time"))
        else:
            self._timer = self._loop.call_at(oldest.deadline, self._check_deadline)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._fail(translate(error, self._errors, self._address), cause=error)

    def _fail(self, error: AsyncqError, *, cause: BaseException | None = None, quietly: bool = False) -> None:
        """The end: everybody who waits is told, both tasks stop, nothing more is accepted."""
        if self._error is not None:
            return
        error.__cause__ = cause
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                copy = type(error)(*error.args)
                copy.__cause__ = cause
                future.set_exception(copy)
        for task in self._tasks:
            task.cancel()
        if self._on_end is not None and not quietly:
            self._on_end()


async def _connect(endpoint: Endpoint) -> AnyConnection:
    """A connection that is logged in, to the first address of the host that accepts one."""
    hosts = [endpoint.host]
    if endpoint.path is None and endpoint.tls is None:  # a certificate is checked against the name
        hosts = await resolve(endpoint.host, endpoint.port)
    while True:
        host = hosts.pop(0)
        connection = structs.replace(endpoint, host=host).connection()
        try:
            await connection.connect()
        except BaseException as error:
            # redis-py leaves the socket open when the handshake is cancelled.
            await connection.disconnect(nowait=True)
            if not hosts or not isinstance(error, RedisConnectionError):
                raise
        else:
            return connection
