"""A bench that sends signatures as a client does, and that can read what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from asyncq._producer import Producer
from asyncq._settings_sources import load_settings
from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, Opening, Planner, TaskNode, result_id
from asyncq.driver import ChordOpening, Chords, Joining
from asyncq.worker._mailer import Mailer
from worker.bench import Bench


class CanvasBench(Bench):
    """Numbers ids, so that a test can name them."""

    def planner(self) -> Planner:
        return Planner(new_id=self.environment.new_id)

    @property
    def chords(self) -> Chords:
        assert isinstance(self.backend, Joining)
        return self.backend.chords

    async def start(self, node: Node, *args: Any, **fields: Any) -> str:
        """Send a signature; return the id of its result."""
        frozen = self.planner().freeze(node)
        mailer = Mailer(Producer(load_settings({}), self.environment), {})
        for step in self.planner().plan(frozen, args, **fields):
            if isinstance(step, Opening):
                await self.chords.open([ChordOpening(group_id=step.group_id, size=step.size, expires=3600)])
            else:
                await self.broker.publish([mailer.publication(step)])
        return result_id(frozen)

    async def value(self, task_id: str) -> Any:
        """Wait for a success."""
        record = await self.final(task_id)
        assert record.status == "SUCCESS", record
        return record.result

    async def error(self, task_id: str) -> tuple[str, Any]:
        """Wait for a failure: its type, and its arguments."""
        record = await self.final(task_id)
        assert record.status == "FAILURE", record
        described = cast("dict[str, Any]", record.result)
        return described["exc_type"], described["exc_message"]


class Described:
    """A signature as a task gives it to its context."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def to_dict(self) -> dict[str, Any]:
        return self._node.to_dict()


def sig(task: str, *args: Any, immutable: bool = False, **options: Any) -> TaskNode:
    return TaskNode(task=task, args=list(args), options=options, immutable=immutable)


def chain(*tasks: Node) -> ChainNode:
    return ChainNode(tasks=list(tasks))


def group(*tasks: Node) -> GroupNode:
    return GroupNode(tasks=list(tasks))


def chord(header: Sequence[Node], body: Node, **options: Any) -> ChordNode:
    return ChordNode(header=GroupNode(tasks=list(header)), body=body, options=options)
