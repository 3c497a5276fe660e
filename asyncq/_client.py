"""Connections of one event loop, and how messages share their way to the broker."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from itertools import takewhile
from math import inf
from weakref import WeakKeyDictionary

from msgspec import Struct

from asyncq._coordination import coordination_of
from asyncq._fork import forget_in_child
from asyncq.driver import Broker, Coordination, Publication, Replying, ResultBackend
from asyncq.errors import AsyncqError, BrokerConnectionError, ConfigurationError, PublishError
from asyncq.protocol import WireMessage

__all__ = ["Client", "Clients", "NoBackend"]

#: Messages that go to the broker in one call, so that one call stays within its deadline.
_MOST_AT_ONCE = 1000

#: Seconds that a sender may be told late, together with others whose time is over: each look is at all that wait.
_TOGETHER = 0.05


class NoBackend(ConfigurationError):
    """Results are asked for, and kept nowhere."""


def _unnoticed() -> None:
    """Nobody wants to know."""


class _Waiting(Struct, eq=False):
    """A message that goes with the next flush, and who waits for it."""

    publication: Publication
    sent: asyncio.Future[None]
    leaving: Callable[[], None]
    #: Loop time by which its sender must know.
    deadline: float


class Client:
    """A broker and a result backend, opened at first use, for one event loop.

    A message that finds nobody before it goes out at once. Those that come while it is under way gather, and go
    together as soon as it is done: no timer holds a message back.
    """

    def __init__(
        self,
        make_broker: Callable[[], Broker],
        make_backend: Callable[[], ResultBackend | None],
        *,
        timeout: float,
        wants_replies: bool = False,
    ) -> None:
        """`timeout` is the drivers' own: a message that waits for another one gets no more time than that one.

        `wants_replies` says that the backend is a `Replying` one, so that it is needed for sending, too.
        """
        self._make_broker = make_broker
        self._make_backend = make_backend
        self._timeout = timeout
        self._wants_replies = wants_replies
        self._opening = asyncio.Lock()
        self._broker: Broker | None = None
        self._backend: ResultBackend | None = None
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False
        #: Calls that publish.
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def publish(self, publication: Publication, *, leaving: Callable[[], None] = _unnoticed) -> None:
        """Store one message; alone, or with others that are sent at this moment.

        `leaving` is called when the broker is about to get it; before that the message has certainly not gone out.
        A caller that is cancelled hurts nobody else's message; whether its own was stored is unknown once it has left.
        Raises BrokerError, ConfigurationError.
        """
        self._check_open()
        if self._busy:
            loop = asyncio.get_running_loop()
            waiting = _Waiting(publication, loop.create_future(), leaving, loop.time() + self._timeout)
            self._waiting.append(waiting)
            await waiting.sent
            return
        self._busy = True
        self._begin()
        try:
            await self._publish([publication], [leaving])
        except PublishError as error:
            raise error.failures[0] from None
        finally:
            if self._waiting:
                self._flusher = asyncio.create_task(self._flush(), name="asyncq-flush")
            else:
                self._rest()

    async def publish_many(
        self, publications: Sequence[Publication], *, leaving: Callable[[], None] = _unnoticed
    ) -> None:
        """Store all of them in one call. Raises PublishError when some were refused, and as `publish` does."""
        self._check_open()
        self._begin()
        try:
            await self._publish(publications, [leaving])
        finally:
            self._end()

    async def backend(self) -> ResultBackend:
        """The result backend, open. Raises BackendConnectionError; NoBackend where there is none."""
        if self._backend is None:
            async with self._opening:
                if self._backend is None:
                    self._check_open()
                    backend = self._make_backend()
                    if backend is None:
                        raise NoBackend("no results are kept: AsyncQ(…, backend=…) says where to keep them")
                    await backend.open()
                    self._backend = backend
        return self._backend

    async def reply_address(self) -> str | None:
        """Where results go that are sent to this connection and kept nowhere; None where they are kept."""
        backend = await self.backend() if self._wants_replies else None
        return await backend.reply_address() if isinstance(backend, Replying) else None

    async def coordination(self) -> Coordination:
        """What clients and workers share, from the backend's server, else from the broker's.

        Raises BrokerConnectionError, BackendConnectionError; ConfigurationError where neither server can.
        """
        try:
            backend = await self.backend()
        except NoBackend:
            backend = None
        broker = self._broker or await self._open_broker()
        coordination = coordination_of(backend, broker)
        if coordination is None:
            raise ConfigurationError("neither the broker nor the result backend can keep what this needs")
        return coordination

    async def close(self) -> None:
        """Send what is under way and what waits, then close the connections. Nothing can be sent any more."""
        self._closed = True
        try:
            await self._idle.wait()
        finally:
            if self._flusher is not None:  # we were cancelled: nobody is made to wait longer
                self._flusher.cancel()
                await asyncio.wait([self._flusher])
            self._fail_waiting()
            async with self._opening:  # what is being opened is closed, too
                broker, self._broker = self._broker, None
                backend, self._backend = self._backend, None
            try:
                if broker is not None:
                    await broker.close()
            finally:
                if backend is not None:
                    await backend.close()

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerConnectionError("the client was closed")

    def _begin(self) -> None:
        self._under_way += 1
        self._idle.clear()

    def _end(self) -> None:
        self._under_way -= 1
        if self._under_way == 0:
            self._idle.set()

    def _rest(self) -> None:
        """Nothing waits: the next message goes out at once."""
        self._busy = False
        self._flusher = None
        self._end()

    def _fail_waiting(self) -> None:
        _fail(self._waiting, BrokerConnectionError("the client was closed"))
        self._waiting.clear()

    async def _publish(self, publications: Sequence[Publication], leaving: Sequence[Callable[[], None]]) -> None:
        # The deadline is the driver's, as for every call on the seam: a second one cost a third of a send.
        broker = self._broker or await self._open_broker()
        if self._wants_replies:
            await self._name_reply_address(publications)
        for leaves in leaving:
            leaves()
        await broker.publish(publications)

    async def _name_reply_address(self, publications: Sequence[Publication]) -> None:
        """Results go to this connection: it has to listen before the task may run."""
        address = await self.reply_address()
        if address is not None:
            for publication in publications:
                if isinstance(publication.message, WireMessage):
                    publication.message.properties.reply_to = address

    async def _open_broker(self) -> Broker:
        async with self._opening:
            if self._broker is None:
                self._check_open()
                broker = self._make_broker()
                await broker.open()
                self._broker = broker
        return self._broker

    async def _flush(self) -> None:
        try:
            while self._waiting:
                first = self._waiting[:_MOST_AT_ONCE]
                del self._waiting[:_MOST_AT_ONCE]
                _fail_overdue(first)
                batch = [each for each in first if not each.sent.done()]
                if batch:
                    timer = _Timer(batch, self._waiting)
                    try:
                        await self._flush_once(batch)
                    finally:
                        timer.cancel()
                if not self._waiting:
                    # Those who have just been told may have more: it goes together, and not one ahead of the others.
                    await asyncio.sleep(0)
        finally:
            self._fail_waiting()
            self._rest()

    async def _flush_once(self, batch: Sequence[_Waiting]) -> None:
        failures: dict[int, Exception] = {}
        try:
            await self._publish([each.publication for each in batch], [each.leaving for each in batch])
        except PublishError as error:
            failures = error.failures
        except Exception as error:  # noqa: BLE001 - whatever it is, each sender gets to see it
            _fail(batch, error)
            return
        except BaseException:
            _fail(batch, BrokerConnectionError("the client was closed while the message was under way"))
            raise
        for index, each in enumerate(batch):
            if each.sent.done():
                continue
            if index in failures:
                each.sent.set_exception(failures[index])
            else:
                each.sent.set_result(None)


class _Timer:
    """Tells senders in time, while a batch of them is under way and others wait.

    They have waited for other messages before: the driver's deadline, which begins when their batch leaves, would be
    a second one for them.
    """

    def __init__(self, *queues: Sequence[_Waiting]) -> None:
        """Each in the order of deadlines."""
        self._queues = queues
        self._handle: asyncio.TimerHandle | None = None
        self._set()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _set(self) -> None:
        left = (next((each.deadline for each in queue if not each.sent.done()), inf) for queue in self._queues)
        nearest = min(left)
        if nearest < inf:
            self._handle = asyncio.get_running_loop().call_at(nearest + _TOGETHER, self._go_off)

    def _go_off(self) -> None:
        for queue in self._queues:
            _fail_overdue(queue)
        self._set()


def _fail_overdue(waiting: Sequence[_Waiting]) -> None:
    now = asyncio.get_running_loop().time()
    overdue = list(takewhile(lambda each: each.deadline <= now, waiting))
    if overdue:
        _fail(overdue, BrokerConnectionError("the broker did not answer in time"))


def _fail(waiting: Sequence[_Waiting], error: Exception) -> None:
    for each in waiting:
        if not each.sent.done():
            # One exception object raised in many tasks would collect all their tracebacks.
            own = copy.copy(error) if isinstance(error, AsyncqError) else error
            own.__cause__ = error.__cause__
            each.sent.set_exception(own)


class Clients:
    """The clients of an app, one a running event loop."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()
        forget_in_child(self)

    @property
    def in_use(self) -> bool:
        """Some loop has a client."""
        return any(not loop.is_closed() for loop in self._by_loop)

    def current(self) -> Client:
        """The running loop's client; made, and not yet connected, when it is asked for first."""
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            # A client refers to its loop, so weak keys alone would keep both for ever.
            for dead in [each for each in self._by_loop if each.is_closed()]:
                del self._by_loop[dead]
            client = self._by_loop[loop] = self._make()
        return client

    async def close_current(self) -> None:
        """Close the running loop's client, if there is one. The next use opens another."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def forget(self) -> list[object]:
        """In a forked child: connections and loops are the parent's."""
        held: list[object] = [self._by_loop, *self._by_loop.items()]
        self._by_loop = WeakKeyDictionary()
        return held
