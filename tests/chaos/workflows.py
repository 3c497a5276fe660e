"""Chords and chains under faults: sent, and judged by what their tasks were given.

Each task of theirs is on record like any other, so that the checker's bounds hold for them as well. What it can't know
is added here: which results a task must be given, and that a body was sent once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import redis

from asyncq import Signature
from asyncq._clock import new_id
from asyncq.canvas import Document
from asyncq.errors import AsyncqError
from chaos.app import checksum
from chaos.checker import Report
from chaos.places import Places
from chaos.trial import Trial
from waiting import until

# `Any` below: arguments and options of signatures.

#: Seconds from a send that has failed to the next try.
_SEND_AGAIN = 0.2

#: Seconds until a chord whose body was sent must be closed: its claim may have to end first, and somebody to look.
_CLOSED_WITHIN = 60.0


class Again(NamedTuple):
    """Runs beyond the first."""

    bodies: int
    others: int


class Workflows:
    """Those of one trial. A send that fails is tried again under the same ids until it succeeds."""

    def __init__(self, trial: Trial, places: Places, *, rate: int) -> None:
        """`rate` is how many tasks of theirs are sent a second, those within counted."""
        self._trial = trial
        self._rate = rate
        self._ledger = trial.ledger
        self._places = places
        #: Task id -> the tasks whose values it must be given, in order.
        self._before: dict[str, Sequence[str]] = {}
        #: Ids of chords' bodies.
        self._bodies: set[str] = set()
        #: Header task's id -> its signature, in its place in the chord.
        self.members: dict[str, Document] = {}

    async def send_chords(self, count: int, size: int, *, doubled: int = 0) -> None:
        """Send chords whose headers have this size; of each, so many of its header's messages twice."""
        await self._evenly(count, size, lambda: self._send_chord(size, doubled))

    async def send_chains(self, count: int, length: int) -> None:
        """Send chains of this length."""
        await self._evenly(count, length, lambda: self._send_chain(length))

    async def send_again(self, member: str) -> None:
        """Send a header task's message once more, as a broker may deliver it twice."""
        await self._trial.app.signature(self.members[member]).send()

    async def end(self) -> None:
        """Wait until all have ended, and no chord is open any more. Raises TimeoutError."""

        async def none_is_open() -> bool:
            return not await asyncio.to_thread(_open_chords, self._places.backend)

        await self._trial.load.stop()
        await self._trial.drain()
        await until(none_is_open, timeout=_CLOSED_WITHIN)

    def check(self, report: Report, *, duplicates: int, overlap: bool = False, silence: float) -> None:
        """Raise AssertionError where `Report.check` does, where a body has run for more than one sending, and where a
        task was given anything but what those before it have returned.
        """
        # A second sending is acknowledged unrun, whatever has become of the first.
        report = replace(report, unstored=set(report.unstored) - self._bodies)
        report.check(duplicates=duplicates, overlap=overlap, silence=silence)
        self._check_sendings()
        self._check_given()

    def again(self) -> Again:
        """How much of them has run again."""
        runs = self._ledger.runs("START")
        everything = {task for after, before in self._before.items() for task in (after, *before)}
        bodies = sum(runs[body] - 1 for body in self._bodies)
        return Again(bodies, sum(runs[task] - 1 for task in everything) - bodies)

    # -- what is on record -------------------------------------------------------------------------------------

    def _check_sendings(self) -> None:
        sendings: defaultdict[str, set[str]] = defaultdict(set)
        for record in self._ledger.entries("SENDING"):
            sendings[record.task_id].add(record.detail)
        assert sendings.keys() == self._bodies
        twice = [body for body, names in sendings.items() if len(names) > 1]
        assert not twice, f"bodies that were run for two sendings: {twice}"

    def _check_given(self) -> None:
        returned, given = self._returned(), self._given()
        for task, before in self._before.items():
            values = given[task]
            assert sorted(values) == list(range(len(before))), f"{task} was given {len(values)} of {len(before)} values"
            wrong = [place for place, found in values.items() if not found <= returned[before[place]]]
            assert not wrong, f"{task} was given what was returned by nobody who stands at {wrong}"

    def _returned(self) -> defaultdict[str, set[str]]:
        """By task the values of its successful runs."""
        returned: defaultdict[str, set[str]] = defaultdict(set)
        for record in self._ledger.entries("END"):
            outcome, _, value = record.detail.partition(" ")
            if outcome == "success":
                returned[record.task_id].add(value)
        return returned

    def _given(self) -> defaultdict[str, defaultdict[int, set[str]]]:
        """By task and place the values that its runs were given."""
        given: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for record in self._ledger.entries("GIVEN"):
            place, _, value = record.detail.partition(" ")
            given[record.task_id][int(place)].add(value)
        return given

    # -- how they are sent -------------------------------------------------------------------------------------

    async def _evenly(self, count: int, tasks: int, send: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as sends:
            for number in range(count):
                await asyncio.sleep(begun + number * tasks / self._rate - loop.time())
                sends.create_task(send())

    async def _send_chord(self, size: int, doubled: int) -> None:
        group_id = new_id()
        body = _signature("chaos.gather", self._pause(), group_id=group_id)
        place = {"group_id": group_id, "chord": body}
        header = [
            _signature("chaos.work", self._pause(), "of a header", **place, group_index=index) for index in range(size)
        ]
        ids = [_id_of(member) for member in header]
        self.members |= zip(ids, header, strict=True)
        self._before[_id_of(body)] = ids
        self._bodies.add(_id_of(body))
        chord = {"header": _workflow("group", {"tasks": header}, task_id=group_id), "body": body, "kwargs": {}}
        await self._send(_workflow("chord", chord), [*header, body])
        for member in self._trial.dice.sample(ids, doubled):
            await self.send_again(member)

    async def _send_chain(self, length: int) -> None:
        first = _signature("chaos.work", self._pause(), "of a chain")
        steps = [first, *(_signature("chaos.step", self._pause()) for _ in range(length - 1))]
        self._before |= {_id_of(step): [_id_of(before)] for before, step in pairwise(steps)}
        await self._send(_workflow("chain", {"tasks": steps}), steps)

    async def _send(self, workflow: Document, calls: Collection[Document]) -> None:
        signature: Signature[Any] = self._trial.app.signature(workflow)
        for call in calls:
            self._ledger.write("TRY", _id_of(call), checksum(*call["args"]))
        while True:
            try:
                await signature.send()
            except AsyncqError as error:
                self._note("NACK", calls, type(error).__name__)
                await asyncio.sleep(_SEND_AGAIN)
            else:
                self._note("ACK", calls)
                return

    def _note(self, kind: str, calls: Collection[Document], detail: str = "") -> None:
        for call in calls:
            self._ledger.write(kind, _id_of(call), detail)

    def _pause(self) -> float:
        return round(self._trial.dice.uniform(*self._trial.scale.pause), 3)


def _signature(task: str, *args: Any, **options: Any) -> Document:
    """A call with an id of its own (canvas.md, 1)."""
    options["task_id"] = new_id()
    return {"task": task, "args": [*args], "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}


def _workflow(kind: str, kwargs: dict[str, Any], **options: Any) -> Document:
    """Of several calls (canvas.md, 2)."""
    named: Document = {"task": f"celery.{kind}", "args": [], "kwargs": kwargs, "options": options}
    return named | {"subtask_type": kind, "immutable": False}


def _id_of(call: Document) -> str:
    return call["options"]["task_id"]


def _open_chords(backend: str) -> int:
    """How many chords have parts, and are not closed."""
    if backend.startswith("sqlite"):
        with closing(sqlite3.connect(backend.removeprefix("sqlite:///"))) as db:
            [count] = db.execute("SELECT count(*) FROM chord WHERE NOT closed").fetchone()
            return count
    with redis.Redis.from_url(backend) as client:
        return int(client.zcard("asyncq.chords"))  # type: ignore[arg-type]  # sync, whatever its types say
