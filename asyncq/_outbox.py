"""Sends calls: made into messages, published, entered as children of the task that sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from asyncq._call import Call
from asyncq._client import Client, Clients
from asyncq._context import current_context
from asyncq._middleware import Middleware, Sending, send_through
from asyncq._portal import Portal
from asyncq._producer import Outgoing, Producer
from asyncq._reserving import Reservation, Wanted
from asyncq._result import AsyncResult
from asyncq._result_reader import ResultReader
from asyncq.driver import Clock
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
        *,
        clock: Clock,
    ) -> None:
        self.producer: Producer = producer
        self._middleware = [each for each in middleware if type(each).send is not Middleware.send]
        self._clients = clients
        self._portal = portal
        self._reader = reader
        self._clock = clock

    async def send(self, call: Call) -> AsyncResult[Any]:
        """Send one call. Raises EncodeError, ConfigurationError, BrokerError, and what middleware raises."""
        if self._middleware:
            return await self._send_through(call)
        return await self._send_prepared(self.producer.prepare(call))

    async def send_many(self, calls: Sequence[Call]) -> list[AsyncResult[Any]]:
        """Send calls in one round trip. Raises PublishError when some were refused, and as `send` does."""
        if self._middleware:
            return await self._send_many_through(calls)
        batch = [self.producer.prepare(call) for call in calls]
        if not batch:
            return []
        if any(outgoing.claim is not None for outgoing in batch):
            return await self._send_many_unique(batch)
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
            return await self._send_unique(outgoing, Wanted(outgoing.claim, outgoing.task_id))
        await self._clients.current().publish(outgoing.publication)
        return self._sent(outgoing)

    async def _send_unique(self, outgoing: Outgoing, wanted: Wanted) -> AsyncResult[Any]:
        client = self._clients.current()
        reservation = await self._reservation(client)
        [holder] = await reservation.take([wanted])
        if holder is not None:
            return self._duplicate(outgoing, wanted, holder)
        left = asyncio.Event()
        try:
            await client.publish(outgoing.publication, leaving=left.set)
        except BaseException as error:
            if not left.is_set() or _is_refusal(error):
                await reservation.give_back([wanted])
            raise
        await reservation.confirm([wanted])
        return self._sent(outgoing)

    async def _send_many_unique(self, batch: Sequence[Outgoing]) -> list[AsyncResult[Any]]:
        """All claims in one round trip, then all messages that have theirs, or need none, in another."""
        client = self._clients.current()
        reservation = await self._reservation(client)
        wanted = {index: Wanted(each.claim, each.task_id) for index, each in enumerate(batch) if each.claim is not None}
        found = zip(wanted, await reservation.take(list(wanted.values())), strict=True)
        holders = {index: holder for index, holder in found if holder is not None}
        leaving = [index for index in range(len(batch)) if index not in holders]
        left = asyncio.Event()
        failures: dict[int, Exception] = {}
        try:
            if leaving:
                await client.publish_many([batch[index].publication for index in leaving], leaving=left.set)
        except PublishError as error:
            failures = {leaving[position]: reason for position, reason in error.failures.items()}
        except BaseException as error:
            if not left.is_set() or _is_refusal(error):
                await reservation.give_back(wanted[index] for index in leaving if index in wanted)
            raise
        refused = [index for index, reason in failures.items() if _is_refusal(reason)]
        await reservation.give_back(wanted[index] for index in refused if index in wanted)
        await reservation.confirm(wanted[index] for index in leaving if index in wanted and index not in failures)
        sent = {index: self._sent(batch[index]) for index in leaving if index not in failures}
        unsent = {batch[index].task_id: reason for index, reason in failures.items()}
        for index, holder in holders.items():
            if holder in unsent:  # the first of its kind was in this batch, and was refused
                failures[index] = unsent[holder]
                continue
            try:
                sent[index] = self._duplicate(batch[index], wanted[index], holder)
            except DuplicateTaskError as error:
                failures[index] = error
        if failures:
            raise PublishError(failures)
        return [sent[index] for index in range(len(batch))]

    async def _reservation(self, client: Client) -> Reservation:
        coordination = await client.coordination()
        timeout = self.producer.publish_timeout
        return Reservation(coordination, self._clock, publish_timeout=timeout, ended=self._reader.ended)

    def _duplicate(self, outgoing: Outgoing, wanted: Wanted, holder: str) -> AsyncResult[Any]:
        """The handle of the task that is there already. Raises DuplicateTaskError where that is asked for."""
        on_conflict = wanted.claim.on_conflict
        if on_conflict == "raise":
            raise DuplicateTaskError(outgoing.task, holder)
        return AsyncResult(holder, self._reader, ignored=outgoing.ignored or on_conflict == "skip", duplicate=True)

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

    async def _send_many_through(self, calls: Sequence[Call]) -> list[AsyncResult[Any]]:
        """Each goes its way through the middleware on its own; the client puts the messages together again."""
        outcomes = await asyncio.gather(*map(self._send_through, calls), return_exceptions=True)
        failures: dict[int, Exception] = {}
        results: list[AsyncResult[Any]] = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                failures[index] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome  # a cancellation from inside, as `send` lets it through
            else:
                results.append(outcome)
        if failures:
            raise PublishError(failures)
        return results

    def _sent(self, outgoing: Outgoing) -> AsyncResult[Any]:
        parent = current_context.get()
        if parent is not None and not outgoing.is_part:  # whoever sends the whole enters it
            parent.children.append([[outgoing.task_id, None], None])
        return AsyncResult(outgoing.task_id, self._reader, ignored=outgoing.ignored)


def _is_refusal(error: BaseException) -> bool:
    """The message is certainly not there."""
    return isinstance(error, AsyncqError) and not isinstance(error, BrokerConnectionError)
