"""Sends calls: made into messages, published, entered as children of the task that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec

from asyncq._call import Call
from asyncq._client import Clients
from asyncq._context import current_context
from asyncq._middleware import Middleware, Sending, send_through
from asyncq._portal import Portal
from asyncq._producer import Outgoing, Producer
from asyncq._result import AsyncResult, ResultReader
from asyncq._unique import reserve
from asyncq.errors import AsyncqError, BrokerConnectionError, DuplicateTaskError, PublishError

__all__ = ["Outbox"]

# `Any` below: what a task returns is known to its `Task`, not here.


class Outbox:
    """One app's way out."""

    def __init__(
        self,
        producer: Producer,
        clients: Clients,
        portal: Portal,
        reader: ResultReader,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.producer: Producer = producer
        self._middleware = [each for each in middleware if type(each).send is not Middleware.send]
        self._clients = clients
        self._portal = portal
        self._reader = reader

    async def send(self, call: Call) -> AsyncResult[Any]:
        """Send one call. Raises EncodeError, ConfigurationError, BrokerError, and what middleware raises."""
        if self._middleware:
            return await self._send_through(call)
        return await self._send_prepared(self.producer.prepare(call))

    async def send_many(self, calls: Sequence[Call]) -> list[AsyncResult[Any]]:
        """Send calls in one round trip. Raises PublishError when some were refused, and as `send` does."""
        if self._middleware:
            return await self._send_many_alone([self._send_through(call) for call in calls])
        batch = [self.producer.prepare(call) for call in calls]
        if not batch:
            return []
        if any(outgoing.claim is not None for outgoing in batch):
            return await self._send_many_alone([self._send_prepared(outgoing) for outgoing in batch])
        try:
            await self._clients.current().publish_many([each.publication for each in batch])
        except PublishError as error:
            for index, outgoing in enumerate(batch):
                if index not in error.failures:
                    self._sent(outgoing)
            raise
        return [self._sent(outgoing) for outgoing in batch]

    def send_sync(self, call: Call) -> AsyncResult[Any]:
        """`send` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        if self._middleware:
            return self._portal.call(self._send_through, call, instead="await ….send(…)")
        outgoing = self.producer.prepare(call)  # here, where the caller's context is
        return self._portal.call(self._send_prepared, outgoing, instead="await ….send(…)")

    async def _send_prepared(self, outgoing: Outgoing) -> AsyncResult[Any]:
        if outgoing.claim is not None:
            return await self._send_unique(outgoing)
        await self._clients.current().publish(outgoing.publication)
        return self._sent(outgoing)

    async def _send_unique(self, outgoing: Outgoing) -> AsyncResult[Any]:
        claim, task_id = outgoing.claim, outgoing.task_id
        assert claim is not None  # noqa: S101 - the callers have looked
        client = self._clients.current()
        coordination = await client.coordination()
        [holder] = await reserve(coordination, [(claim, task_id)])
        if holder is not None:
            if claim.on_conflict == "raise":
                raise DuplicateTaskError(outgoing.task, holder)
            ignored = outgoing.ignored or claim.on_conflict == "skip"
            return AsyncResult(holder, self._reader, ignored=ignored, duplicate=True)
        try:
            await client.publish(outgoing.publication)
        except BrokerConnectionError:
            raise  # it may have gone out: the claim stays, and expires
        except AsyncqError:
            await coordination.delete([claim.key], if_value=task_id.encode())
            raise
        return self._sent(outgoing)

    async def _send_through(self, call: Call) -> AsyncResult[Any]:
        task_id = call.options.task_id or self.producer.new_id()
        sending = Sending(
            task=call.name,
            task_id=task_id,
            args=call.args,
            kwargs=call.kwargs,
            headers=dict(call.options.headers or {}),
        )
        sent: list[AsyncResult[Any]] = []

        async def publish() -> None:
            options = msgspec.structs.replace(call.options, task_id=task_id, headers=sending.headers or None)
            outgoing = self.producer.prepare(msgspec.structs.replace(call, options=options))
            sent.append(await self._send_prepared(outgoing))

        await send_through(self._middleware, sending, publish)
        if not sent:
            raise RuntimeError(f"{call.name} was not sent: a middleware neither forwarded it nor raised an error")
        return sent[-1]

    async def _send_many_alone(self, sends: Sequence[Awaitable[AsyncResult[Any]]]) -> list[AsyncResult[Any]]:
        """Each goes its way on its own; the client puts the messages together again."""
        sent = await asyncio.gather(*sends, return_exceptions=True)
        failures = {index: each for index, each in enumerate(sent) if isinstance(each, Exception)}
        if failures:
            raise PublishError(failures)
        return [each for each in sent if isinstance(each, AsyncResult)]

    def _sent(self, outgoing: Outgoing) -> AsyncResult[Any]:
        parent = current_context.get()
        if parent is not None:
            parent.children.append([[outgoing.task_id, None], None])
        return AsyncResult(outgoing.task_id, self._reader, ignored=outgoing.ignored)
