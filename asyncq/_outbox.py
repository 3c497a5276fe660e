"""Sends calls: made into messages, published, entered as children of the task that sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncq._call import Call
from asyncq._client import Clients
from asyncq._context import current_context
from asyncq._portal import Portal
from asyncq._producer import Outgoing, Producer
from asyncq._result import AsyncResult, ResultReader
from asyncq.driver import Publication
from asyncq.errors import PublishError

__all__ = ["Outbox"]

# `Any` below: what a task returns is known to its `Task`, not here.


class Outbox:
    """One app's way out."""

    def __init__(self, producer: Producer, clients: Clients, portal: Portal, reader: ResultReader) -> None:
        self.producer: Producer = producer
        self._clients = clients
        self._portal = portal
        self._reader = reader

    async def send(self, call: Call) -> AsyncResult[Any]:
        """Send one call. Raises EncodeError, ConfigurationError, BrokerError."""
        outgoing = self.producer.prepare(call)
        await self._clients.current().publish(outgoing.publication)
        return self._sent(outgoing)

    async def send_many(self, calls: Sequence[Call]) -> list[AsyncResult[Any]]:
        """Send calls in one round trip. Raises PublishError when some were refused, and as `send` does."""
        batch = [self.producer.prepare(call) for call in calls]
        if not batch:
            return []
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
        outgoing = self.producer.prepare(call)  # here, where the caller's context is
        self._portal.call(self._publish, outgoing.publication, instead="await ….send(…)")
        return self._sent(outgoing)

    async def _publish(self, publication: Publication) -> None:
        await self._clients.current().publish(publication)

    def _sent(self, outgoing: Outgoing) -> AsyncResult[Any]:
        parent = current_context.get()
        if parent is not None:
            parent.children.append([[outgoing.task_id, None], None])
        return AsyncResult(outgoing.task_id, self._reader, ignored=outgoing.ignored)
