"""Sends signatures: a call as it is, a workflow as the messages that start it, planned while they go out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from asyncq._call import Call, call_of
from asyncq._chain_rest import keep_rest
from asyncq._chord_opening import cannot_join, chord_opening
from asyncq._client import Client, Clients, NoBackend
from asyncq._context import Context, current_context
from asyncq._definition import TaskOptions
from asyncq._outbox import Outbox
from asyncq._portal import Portal
from asyncq._result import AsyncResult, result_from
from asyncq._result_reader import ResultReader
from asyncq._settings import Settings
from asyncq.canvas import (
    ChainNode,
    Cutter,
    GroupNode,
    Node,
    Opening,
    Pieces,
    Planner,
    ResultTree,
    Sending,
    Step,
    TaskNode,
    child_of,
    has_chord,
    members_of,
    result_of,
)
from asyncq.driver import ChordOpening, Chords, Joining
from asyncq.errors import SignatureError

__all__ = ["CanvasSender"]

# `Any` below: what a task returns is known to its `Task`, not here.

#: Seconds that the rest of a long chain waits for the steps before it: as long as a revocation is kept.
_REST_IS_KEPT = 30 * 86400.0

#: Messages that go to the broker in one call.
_MOST_AT_ONCE = 1000


class CanvasSender:
    """One app's way out for signatures of every kind."""

    def __init__(
        self,
        outbox: Outbox,
        clients: Clients,
        portal: Portal,
        reader: ResultReader,
        options_of: Callable[[str], TaskOptions | None],
    ) -> None:
        self.outbox: Outbox = outbox
        self._clients = clients
        self._portal = portal
        self._reader = reader
        self._options_of = options_of

    async def send(self, node: Node) -> Any:
        """Send it, and return a handle on its result. Raises what `Signature.send` raises."""
        return await self._send(node, current_context.get())

    def send_sync(self, node: Node) -> Any:
        """`send` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        return self._portal.call(self._send, node, current_context.get(), instead="await ….send()")

    async def send_many(self, nodes: Sequence[Node]) -> list[AsyncResult[Any]]:
        """Send several, those that are calls of one task in one round trip."""
        if not all(isinstance(node, TaskNode) for node in nodes):
            return [await self.send(node) for node in nodes]
        planner = await self._planner(self._clients.current(), current_context.get())
        return await self.outbox.send_many([call for node in nodes for call in self._calls(planner.plan(node))])

    async def _send(self, node: Node, parent: Context | None) -> AsyncResult[Any]:
        client = self._clients.current()
        chords = await self._chords(client, node)
        cutter = self._cutter()
        planner = await self._planner(client, parent, chords, cutter)
        frozen = planner.freeze(node)
        if isinstance(frozen, TaskNode):
            (call,) = self._calls(planner.plan(frozen))
            return await self.outbox.send(call)
        if isinstance(frozen, ChainNode) and not frozen.tasks:
            raise SignatureError("a chain without steps can't be sent")
        if isinstance(frozen, GroupNode) and not isinstance(frozen.tasks, list):
            members: list[ResultTree] = []
            tree = ResultTree(frozen.options["task_id"], members)
            frozen = replace(frozen, tasks=self._noted(frozen.tasks, members, joins=chords is not None))
        else:
            tree = result_of(frozen, ignores=self._ignores)
        await self._publish(planner.plan(frozen), chords, cutter)
        if parent is not None:
            parent.children.append(child_of(tree))
        return result_from(tree, self._reader)

    async def _publish(self, steps: Iterator[Step], chords: Chords | None, cutter: Cutter) -> None:
        """In batches, each behind what it needs: the openings of the chords that it may complete, pieces of chains."""
        openings: list[ChordOpening] = []
        batch: list[Call] = []
        for step in steps:
            if isinstance(step, Opening):
                openings.append(_chord_opening(step, self.outbox.producer.settings))
            else:
                batch.append(call_of(step, self._options_of))
            if len(batch) == _MOST_AT_ONCE:
                await self._flush(openings, batch, cutter.take(), chords)
                openings, batch = [], []
        await self._flush(openings, batch, cutter.take(), chords)

    def _cutter(self) -> Cutter:
        producer = self.outbox.producer
        return Cutter(producer.settings.longest_chain, producer.new_id, self._queue_of)

    def _queue_of(self, step: Node) -> str | None:
        """Where the first message of a step goes, if it has any."""
        planned = Planner(new_id=self.outbox.producer.new_id).plan(step)
        sending = next((each for each in planned if isinstance(each, Sending)), None)
        return None if sending is None else self.outbox.producer.queue_of(call_of(sending, self._options_of))

    async def _flush(
        self, openings: list[ChordOpening], batch: list[Call], pieces: Pieces, chords: Chords | None
    ) -> None:
        if pieces:
            await keep_rest(await self._clients.current().coordination(), pieces, ttl=_REST_IS_KEPT)
        if chords is not None and openings:
            await chords.open(openings)
        if batch:
            await self.outbox.send_many(batch)

    def _noted(self, members: Iterable[Node], results: list[ResultTree], *, joins: bool) -> Iterator[Node]:
        """The same members, their results written down as they pass.

        Raises ConfigurationError for a chord among them that nobody `joins`.
        """
        for member in members:
            if not joins and has_chord(member):
                raise cannot_join("the result backend")
            results += members_of([member], ignores=self._ignores)
            yield member

    def _ignores(self, node: TaskNode) -> bool:
        said: bool | None = node.options.get("ignore_result")
        task = self._options_of(node.task)
        if said is not None or task is None:
            return said is True
        return self.outbox.producer.settings.ignore_result if task.ignore_result is None else task.ignore_result

    def _calls(self, steps: Iterator[Step]) -> list[Call]:
        """Of what holds no chord."""
        return [call_of(step, self._options_of) for step in steps if isinstance(step, Sending)]

    async def _planner(
        self, client: Client, parent: Context | None, chords: Chords | None = None, cutter: Cutter | None = None
    ) -> Planner:
        producer = self.outbox.producer
        return Planner(
            new_id=producer.new_id,
            reply_to=await client.reply_address() or producer.reply_to,
            parent_id=None if parent is None else parent.task_id,
            root_id=None if parent is None else parent.root_id or parent.task_id,
            saves_headers=chords is not None and chords.saves_headers,
            cutter=cutter,
        )

    async def _chords(self, client: Client, node: Node) -> Chords | None:
        """What brings the parts of its chords together; None where there are none. Raises ConfigurationError."""
        may_have_some = isinstance(node, GroupNode) and not isinstance(node.tasks, list)
        has_some = has_chord(node)
        if not has_some and not may_have_some:
            return None
        try:
            backend = await client.backend()
        except NoBackend:
            backend, name = None, "an app without a result backend"
        else:
            name = backend.address
        if isinstance(backend, Joining):
            return backend.chords
        if has_some:
            raise cannot_join(name)
        return None


def _chord_opening(opening: Opening, settings: Settings) -> ChordOpening:
    return chord_opening(
        opening,
        serializer=settings.result_serializer,
        compression=settings.result_compression,
        limits=settings.limits,
        expires=settings.chord_expires,
    )
