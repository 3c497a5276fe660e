"""Waiting until a queue may have something, without taking it.

A blocking pop would take: cancelled at the wrong moment it lost 513 of 2,000 messages. So a waiter only looks, and the
claim that follows takes. Ways to wait, by what the server can do:

* `CLIENT TRACKING`: the server tells one connection that keys, which another one looked at, have changed. Any number
  of lists, no message moved, nothing written.
* `BLMOVE list list RIGHT RIGHT`: blocks until a list has an element and leaves it where it is. One connection a list,
  and the message's body travels to every waiter.
* looking again after a pause that grows to a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from asyncq.driver import Environment
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull
from asyncq_brokers._clients.redis import BROKER_ERRORS, Endpoint, Link, Session

__all__ = ["Waiter", "make_waiter"]

logger = logging.getLogger(__name__)

#: The channel on which a server tells of changed keys.
_INVALIDATIONS = "__redis__:invalidate"

#: In the server's answer to CLIENT TRACKING when the connection that was to hear of changes has ended meanwhile.
_EAR_HAS_GONE = "redirect to does not exist"

#: Seconds after which a waiter looks for itself, and finds out whether its connections still live: a load balancer may
#: have forgotten them, and a forgotten connection stays silent for ever.
_LOOK_AGAIN = 4.0

#: Seconds that such a check may take.
_CHECK_TIMEOUT = 5.0

#: The longest pause after a wake-up, in seconds, where other consumers wake too: without it the quickest takes all.
_STAGGER = 0.005

#: Shortest and longest pause between two looks, in seconds.
_POLL_FIRST, _POLL_LAST = 0.01, 1.0


class Waiter(Protocol):
    """Waits for lists to have something. One task at a time may await `wait`."""

    async def wait(self) -> None:
        """Return when one of the lists may have something; too early is right, too late is not.

        Cancellable at any moment. Raises BrokerConnectionError; another BrokerError when the server can't do this.
        """
        ...

    async def close(self) -> None:
        """Release every connection; `wait` ends with BrokerConnectionError."""
        ...


def make_waiter(endpoint: Endpoint, lists: Sequence[str], environment: Environment, timeout: float) -> Waiter:
    """A waiter for the lists, by the best way that the server allows."""
    timeout = min(timeout, _CHECK_TIMEOUT)
    return BestWaiter(
        [
            TrackingWaiter(endpoint, lists, environment, timeout),
            RotatingWaiter(endpoint, lists, environment, timeout),
            PollingWaiter(endpoint, lists, environment, timeout),
        ]
    )


class BestWaiter:
    """Takes the first of several ways that the server does not refuse."""

    def __init__(self, ways: Sequence[Waiter]) -> None:
        self._ways = list(ways)

    async def wait(self) -> None:
        while True:
            try:
                return await self._ways[0].wait()
            except BrokerConnectionError:
                raise
            except BrokerError as error:
                if len(self._ways) == 1:
                    raise
                refused, best = self._ways[:2]
                logger.info("%s falls back to %s: %s", type(refused).__name__, type(best).__name__, error)
                await refused.close()
                del self._ways[0]

    async def close(self) -> None:
        await asyncio.gather(*(way.close() for way in self._ways))


class TrackingWaiter:
    """Two connections: one looks, the other hears; on one alone, redis-py drops what it hears."""

    def __init__(self, endpoint: Endpoint, lists: Sequence[str], environment: Environment, timeout: float) -> None:
        self._endpoint = endpoint
        self._lists = lists
        self._random = environment.random
        self._timeout = timeout
        #: The pair: when either is lost, both go.
        self._eye: Session | None = None
        self._ear: Session | None = None
        self._connecting: asyncio.Task[tuple[Session, Session]] | None = None
        self._notice = asyncio.Event()
        self._closed = False

    async def wait(self) -> None:
        while True:
            self._notice.clear()
            found, rivals = await self._look()
            if found:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._notice.wait()
                if rivals:
                    await asyncio.sleep(self._random.uniform(0, _STAGGER))
                return

    async def close(self) -> None:
        self._closed = True
        self._notice.set()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)  # who waited for it has gone
        await self._disconnect()

    async def _look(self) -> tuple[bool, bool]:
        """Look at the lists, which makes the server tell of their next change.

        Returns whether there is something, and whether other consumers wait on this server too.
        """
        eye, ear = await self._connected()
        deadline = asyncio.get_running_loop().time() + self._timeout
        ear.check(deadline)
        found, listeners = await eye.request([("EXISTS", *self._lists), ("PUBSUB", "NUMSUB", _INVALIDATIONS)], deadline)
        return bool(found), listeners[1] > 1

    async def _connected(self) -> tuple[Session, Session]:
        if self._eye is not None and self._eye.alive and self._ear is not None and self._ear.alive:
            return self._eye, self._ear
        self._refuse_if_closed()
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        # A cancelled `wait` leaves it alone: its clean-up would be cancelled too, again and again under anyio.
        await asyncio.wait([self._connecting])
        self._refuse_if_closed()
        connecting, self._connecting = self._connecting, None
        return connecting.result()

    async def _connect(self) -> tuple[Session, Session]:
        await self._disconnect()
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                self._ear = ear = await self._open()
                ear_id, _ = await ear.request([("CLIENT", "ID"), ("SUBSCRIBE", _INVALIDATIONS)], deadline)
                self._eye = eye = await self._open()
                await eye.request([("CLIENT", "TRACKING", "ON", "REDIRECT", ear_id)], deadline)
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, TimeoutError):
                raise BrokerConnectionError(f"Redis at {self._endpoint.address} did not answer in time") from error
            if isinstance(error, BrokerError) and _EAR_HAS_GONE in str(error):
                # Not a server that can't: the next pair will do.
                raise BrokerConnectionError(f"lost a connection to Redis at {self._endpoint.address}") from error
            raise
        return eye, ear

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BrokerConnectionError("the consumer is closed")

    async def _open(self) -> Session:
        # An end is a notice too: whoever waits must look again, over new connections.
        return await Session.open(self._endpoint, errors=BROKER_ERRORS, on_message=self._hear, on_end=self._notice.set)

    async def _disconnect(self) -> None:
        sessions = [session for session in (self._eye, self._ear) if session is not None]
        self._eye = self._ear = None
        await asyncio.gather(*(session.close() for session in sessions))

    def _hear(self, channel: bytes, keys: object) -> None:  # noqa: ARG002 - which one has changed, the claim finds out
        self._notice.set()


class RotatingWaiter:
    """A connection a list, blocked in a move of its last element onto itself; it stays so between two waits."""

    def __init__(self, endpoint: Endpoint, lists: Sequence[str], environment: Environment, timeout: float) -> None:
        self._links = {
            name: Link(endpoint, errors=BROKER_ERRORS, clock=environment.clock, timeout=_LOOK_AGAIN + timeout)
            for name in lists
        }
        self._looks: dict[str, asyncio.Task[object]] = {}

    async def wait(self) -> None:
        while True:
            for name, link in self._links.items():
                if name not in self._looks:
                    look = link.call("BLMOVE", name, name, "RIGHT", "RIGHT", int(_LOOK_AGAIN))
                    self._looks[name] = asyncio.create_task(look)
            await asyncio.wait(self._looks.values(), return_when=asyncio.FIRST_COMPLETED)
            done = [self._looks.pop(name) for name, look in list(self._looks.items()) if look.done()]
            errors = [look.exception() for look in done]
            if any(isinstance(error, BrokerFull) for error in errors):
                # To Redis a move is a write. There may be something or not, and looking again at once would spin.
                await asyncio.sleep(_POLL_LAST)
                return
            for error in errors:
                if error is not None:
                    raise error
            if any(look.result() is not None for look in done):
                return

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links.values()))
        if self._looks:
            await asyncio.wait(self._looks.values())
            for look in self._looks.values():
                look.exception()  # nobody waits for it any more


class PollingWaiter:
    """Looks, and pauses longer each time."""

    def __init__(self, endpoint: Endpoint, lists: Sequence[str], environment: Environment, timeout: float) -> None:
        self._link = Link(endpoint, errors=BROKER_ERRORS, clock=environment.clock, timeout=timeout)
        self._lists = lists

    async def wait(self) -> None:
        pause = _POLL_FIRST
        while not await self._link.call("EXISTS", *self._lists):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_LAST)

    async def close(self) -> None:
        await self._link.close()
