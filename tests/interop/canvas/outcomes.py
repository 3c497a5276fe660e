"""What became of a canvas, in words that are the same each time that it is sent."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from interop.canvas.tasks import Notes
from redis_kit import Client

# `Any` below: results of tasks, and handles of either library.

#: What `get()` comes to of a canvas that doesn't end …
NEVER = "never"

#: … asked for so many seconds, when all has ended that will.
ENDLESS = 0.2

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Tree(Struct, frozen=True):
    """Where the results of a canvas that was sent are found."""

    id: str
    before: Tree | None
    members: Sequence[Tree]

    def ids(self) -> Iterator[str]:
        yield self.id
        for each in (*self.members, *filter(None, [self.before])):
            yield from each.ids()


def tree_of(handle: Any) -> Tree:
    """Of a handle of either library: they name these things alike."""
    before = None if handle.parent is None else tree_of(handle.parent)
    return Tree(handle.id, before, [tree_of(each) for each in getattr(handle, "results", ())])


class Outcome(Struct):
    """What can be seen of a canvas. Ids are replaced by what ran under them, which the next sending has in common."""

    #: What `get()` returned; of what it raised the class and the arguments.
    value: Any
    #: For each id the calls that were made under it, in order, and its record; calls without an id stand alone.
    tasks: list[Any]


class Trace(Struct):
    """What a canvas has left behind."""

    tree: Tree
    #: By the task's id.
    calls: Mapping[str, list[Any]]
    #: Calls without a run of their own.
    told: list[Any]
    #: By the task's id: the state, and what is stored with it.
    records: Mapping[str, Any]

    def outcome(self, value: Any) -> Outcome:
        return Outcome(self._in_words(value), self.tasks())

    def tasks(self) -> list[Any]:
        """Of what has neither run nor ended nothing is said: the libraries' handles know more or fewer of those."""
        ids = {*self.tree.ids(), *self.calls}
        known = [[self.calls.get(each, []), self.records.get(each, [])] for each in ids]
        found = [*([each] for each in self.told), *(each for each in known if any(each))]
        return sorted(self._in_words(found), key=json.dumps)

    def _in_words(self, found: Any) -> Any:
        return json.loads(_ID.sub(lambda match: self._word(match[0]), json.dumps(found)))

    def _word(self, task_id: str) -> str:
        if task_id == self.tree.id:
            return "<result>"
        if task_id not in self.calls:
            return "<never ran>"
        name, *args = self.calls[task_id][0]
        return f"<{name}({', '.join(map(str, args))})>".replace('"', "'")


def traces(redis: Client, trees: Mapping[str, Tree]) -> dict[str, Trace]:
    """What canvases that were sent have left behind by now."""
    owners = {task_id: name for name, tree in trees.items() for task_id in tree.ids()}
    calls: dict[str, defaultdict[str, list[Any]]] = {name: defaultdict(list) for name in trees}
    told: dict[str, list[Any]] = {name: [] for name in trees}
    for note in Notes(redis).read():
        if note.root in owners:
            name = owners[note.root]
            (told[name] if note.task_id is None else calls[name][note.task_id]).append(note.call)
    ids = {*owners, *(task_id for each in calls.values() for task_id in each)}
    stored = zip(ids, redis.mget([f"celery-task-meta-{task_id}" for task_id in ids]), strict=True)
    records = {task_id: _record(raw) for task_id, raw in stored if raw is not None}
    return {name: Trace(tree, calls[name], told[name], records) for name, tree in trees.items()}


def shares(redis: Client, trees: Mapping[str, Tree]) -> Counter[str]:
    """How many calls each kind of worker has made for canvases that were sent."""
    owned = {task_id for tree in trees.values() for task_id in tree.ids()}
    return Counter(note.worker for note in Notes(redis).read() if note.root in owned)


def _record(raw: bytes) -> Any:
    record = json.loads(raw)
    return [record["status"], record["result"]]
