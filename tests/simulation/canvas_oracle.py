"""What must come of a tree, by plain recursion: calls, records, who is told of failures, chords that never end."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from asyncq.protocol import ResultRecord
from simulation.canvas_trees import Callback, Chain, Chord, Errback, Group, Task, Tree

Status: TypeAlias = Literal["SUCCESS", "FAILURE", "REVOKED", "NEVER"]


#: The label of a task that gives back what it gets, and of which nobody hears.
_GATHERS = "celery.accumulate"


#: Facts that go when their time is over: nothing else may be left.
_FACTS = ("dispatched.", "grown.", "suspect.", "revoked.", "revocations")


class Failure(NamedTuple):
    """An exception as a record has it."""

    type: str
    args: list[Any]

    def __str__(self) -> str:
        return f"{self.type}({', '.join(map(repr, self.args))})"


@dataclass(frozen=True)
class One:
    """The end of a task, and its part in a chord."""

    task_id: str
    status: Status
    #: Its value, or its Failure.
    result: Any = None
    #: Of what it has added to its chord.
    grown: tuple[One, ...] = ()


#: The ends of a tree: of a group each member's.
Ends: TypeAlias = "One | list[Ends]"


class Told(NamedTuple):
    """An errback is told once, of one of these tasks: which step of a body that never ran, depends on its form."""

    label: str
    task_ids: frozenset[str]
    failure: Failure


class Seen:
    """What has come of a tree: noted while it runs, and read from the servers in the end."""

    def __init__(self) -> None:
        #: By label and number of retries: the id and the arguments of each run.
        self.calls: defaultdict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
        #: By label and number of retries: the sendings of a body that have started.
        self.dispatched: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        #: By an errback's label: of which task it was told, and of what; None where it isn't told that.
        self.told: defaultdict[str, list[tuple[str, Failure | None]]] = defaultdict(list)
        #: Ids of the errbacks that are tasks.
        self.errbacks: set[str] = set()
        self.records: dict[str, ResultRecord] = {}
        #: Groups of chords that are not closed.
        self.open: list[str] = []
        #: Keys of the coordination store.
        self.facts: list[str] = []


class Oracle:
    """Follows one tree."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        """`ids` are those of the tasks, by label; of others the label is the id."""
        self._ids = ids
        #: By label and number of retries.
        self.calls: dict[tuple[str, int], tuple[str, str]] = {}
        self.records: dict[str, tuple[Status, Any]] = {}
        #: May have the failure of what follows them, or none at all: steps before the last one of a body.
        self.skipped: set[str] = set()
        self.told: list[Told] = []
        #: Chords that wait for what was revoked in the midst of a chain.
        self.open = 0

    def run(self, tree: Tree) -> None:
        self._run(plain(tree), [], None, part=False)

    def complaints(self, seen: Seen, *, fair: bool) -> Iterator[str]:
        """What is not as it must be. Where something went wrong, each step may have been repeated."""
        for key in sorted(self.calls.keys() | seen.calls.keys()):
            expected, runs = self.calls.get(key), seen.calls.get(key, [])
            if set(runs) != ({expected} - {None}) or (fair and len(runs) > 1):
                yield f"call {key}: {runs}, not {expected}"
        yield from (
            f"body {key} was run for {len(each)} sendings" for key, each in seen.dispatched.items() if len(each) > 1
        )
        yield from self._complaints_of_errbacks(seen, fair=fair)
        yield from self._complaints_of_records(seen.records, seen.errbacks)
        if len(seen.open) != self.open:
            yield f"{len(seen.open)} chords are open, not {self.open}"
        yield from (f"a fact is left: {key}" for key in seen.facts if not key.startswith(_FACTS))

    def _complaints_of_errbacks(self, seen: Seen, *, fair: bool) -> Iterator[str]:
        for label in sorted(seen.told.keys() | {told.label for told in self.told}):
            expected = [told for told in self.told if told.label == label]
            for task_id in dict.fromkeys(task_id for task_id, _ in seen.told.get(label, [])):
                failures = [failure for id_, failure in seen.told[label] if id_ == task_id]
                told = next((told for told in expected if task_id in told.task_ids), None)
                if told is None:
                    yield f"errback {label} is told of {task_id}, not one of {expected}"
                    continue
                expected.remove(told)
                if {*map(str, failures)} - {str(told.failure), "None"} or (fair and len(failures) > 1):
                    yield f"errback {label} is told of {failures}, not {told}"
            yield from (f"errback {label} is not told of {told}" for told in expected)

    def _complaints_of_records(self, records: Mapping[str, ResultRecord], errbacks: AbstractSet[str]) -> Iterator[str]:
        for task_id in sorted(self.records.keys() | (records.keys() - errbacks)):
            expected, found = self.records.get(task_id), records.get(task_id)
            if found is None:
                yield f"record of {task_id}: none, not {expected}"
            elif expected is None:
                if not (found.status == "FAILURE" and (task_id in self.skipped)):
                    yield f"record of {task_id}: {found.status} {found.result}, and none is expected"
            elif (found.status, _described(found.result) if found.status != "SUCCESS" else found.result) != expected:
                yield f"record of {task_id}: {found.status} {found.result}, not {expected}"

    def _run(self, tree: Tree, args: Sequence[Any], named: str | None, *, part: bool) -> Ends:
        """`named` is the id of the task whose place it takes, `part` whether its end is a chord's part."""
        match tree:
            case Task():
                return self._task(tree, args, named, part=part)
            case Chain():
                return self._chain(tree, args, named, part=part)
            case Group():
                return self._members(tree.members, args, part=part)
            case Chord():
                return self._chord(tree, args, named, part=part)

    # -- tasks

    def _task(self, task: Task, args: Sequence[Any], named: str | None, *, part: bool) -> Ends:
        task_id = named or self._id(task)
        given = [] if task.immutable else list(args)
        if task.label == _GATHERS:
            return self._succeed(task_id, given[0], task.links)
        if task.act in {"expire", "revoke"}:
            failure = Failure("TaskRevokedError", ["expired" if task.act == "expire" else "revoked"])
            return self._end(One(task_id, "REVOKED", failure))
        for attempt in range(2 if task.act in {"recover", "exhaust"} else 1):
            self.calls[task.label, attempt] = (task_id, repr(given))
        if task.act in {"fail", "exhaust"}:
            return self._fail(task_id, Failure("ValueError", [task.label]), task.errbacks)
        if task.act == "replace":
            assert task.inner is not None
            inner = linked(_in_place(plain(task.inner)), task.links, task.errbacks)
            return self._run(inner, [], task_id, part=part)
        grown: tuple[One, ...] = ()
        if task.act == "grow" and part:
            assert task.inner is not None
            grown = tuple(_ones(self._run(plain(task.inner), [], None, part=True)))
        return replace(self._succeed(task_id, value_of(task.label, given), task.links), grown=grown)

    def _succeed(self, task_id: str, value: Any, links: Iterable[Callback]) -> One:
        for callback in links:
            self._run(plain(callback.tree), [] if callback.immutable else [value], None, part=False)
        return self._end(One(task_id, "SUCCESS", value))

    def _fail(self, task_id: str, failure: Failure, errbacks: Iterable[Errback]) -> One:
        self._tell(errbacks, [task_id], failure)
        return self._end(One(task_id, "FAILURE", failure))

    def _end(self, end: One) -> One:
        self.records[end.task_id] = (end.status, end.result)
        return end

    def _tell(self, errbacks: Iterable[Errback], task_ids: Iterable[str], failure: Failure) -> None:
        self.told += [Told(errback.label, frozenset(task_ids), failure) for errback in errbacks]

    def _id(self, task: Task) -> str:
        return self._ids.get(task.label, task.label)

    # -- what is made of several

    def _chain(self, chain: Chain, args: Sequence[Any], named: str | None, *, part: bool) -> Ends:
        *before, last = distributed(chain)
        for position, step in enumerate(before):
            end = self._run(step, args, None, part=False)
            assert isinstance(end, One), "what is followed has one result"
            if end.status == "FAILURE":
                for later in before[position + 1 :]:
                    self._miss(later, end.result, None)
                return self._miss(last, end.result, named)
            if end.status != "SUCCESS":
                return self._never(last, named)
            args = [end.result]
        return self._run(last, args, named, part=part)

    def _members(self, members: Iterable[Tree], args: Sequence[Any], *, part: bool) -> list[Ends]:
        """Those of a group in a group stand among the others."""
        found: list[Ends] = []
        for member in members:
            ends = self._run(member, args, None, part=part)
            found += ends if isinstance(member, Group) and isinstance(ends, list) else [ends]
        return found

    def _chord(self, chord: Chord, args: Sequence[Any], named: str | None, *, part: bool) -> Ends:
        joined = self._join(self._members(chord.header, args, part=True), chord)
        if joined is None:
            return self._never(chord.body, named)
        if isinstance(joined, list):
            return self._run(chord.body, [joined], named, part=part)
        failure, cause = joined
        if isinstance(chord.body, Group):  # its members get what went wrong in the header itself, as with Celery
            failure = cause
        return self._miss(chord.body, failure, named, tell=True)

    def _join(self, header: list[Ends], chord: Chord) -> list[Any] | tuple[Failure, Failure] | None:
        """What the body gets; or a ChordError and its cause; or None, where a part never comes."""
        ones = _ones(header)
        if any(one.status == "NEVER" for one in ones):
            self.open += 1
            return None
        by_records = any(isinstance(ends, list) for ends in header)
        if by_records:  # as with Celery: the records of those that were sent with it
            ones = [one for one in ones if one not in _grown(header)]
        failed = [one for one in ones if one.status != "SUCCESS"]
        succeeded = len(ones) - len(failed)
        if failed and not _is_met(chord, succeeded, len(ones)):
            text = f"Dependency {failed[0].task_id} raised {failed[0].result}"
            if chord.threshold is not None:
                text = f"{succeeded} of {len(ones)} have succeeded: {text}"
            return Failure("ChordError", [text]), failed[0].result
        return _values(header) if by_records else [_value(one) for one in ones]

    # -- what never runs

    def _miss(self, tree: Tree, failure: Failure, named: str | None, *, tell: bool = False) -> Ends:
        """It fails without a run; with `tell` its errbacks hear of it, as a body's do, unlike those of later steps."""
        match tree:
            case Task():
                return self._fail(named or self._id(tree), failure, tree.errbacks if tell else ())
            case Chain():
                *before, last = tree.steps
                skipped = [self._id(step) for step in before if isinstance(step, Task)]
                self.skipped.update(skipped)
                ends = self._miss(last, failure, named)
                if tell:
                    first = before[0].errbacks if isinstance(before[0], Task) else ()
                    # Once, however many results it has.
                    task_ids = [*skipped, *(one.task_id for one in _ones(ends)), *_groups(last)]
                    self._tell({**dict.fromkeys(tree.errbacks), **dict.fromkeys(first)}, task_ids, failure)
                return ends
            case Group():
                found: list[Ends] = []
                for member in tree.members:
                    ends = self._miss(member, failure, None, tell=tell)
                    found += ends if isinstance(member, Group) and isinstance(ends, list) else [ends]
                self.records[tree.name] = ("FAILURE", failure)
                return found
            case Chord():
                return self._miss(tree.body, failure, named, tell=tell)

    def _never(self, tree: Tree, named: str | None) -> Ends:
        """It stays pending."""
        match tree:
            case Task():
                return One(named or self._id(tree), "NEVER")
            case Chain():
                return self._never(tree.steps[-1], named)
            case Group():
                return [self._never(member, None) for member in tree.members]
            case Chord():
                return self._never(tree.body, named)


# -- forms -----------------------------------------------------------------------------------------------------


def plain(tree: Tree) -> Tree:
    """The same with links on tasks and chains alone; what follows a group is a body; no chain stands in a chain."""
    match tree:
        case Task():
            return tree
        case Chain():
            made = _chained([plain(step) for step in tree.steps])
        case Group():
            made = Group(tuple(plain(member) for member in tree.members), tree.name)
        case Chord():
            header = tuple(plain(member) for member in tree.header)
            made = replace(tree, header=header, body=plain(tree.body), links=(), errbacks=())
    return linked(made, tree.links, tree.errbacks)


def _chained(steps: Iterable[Tree]) -> Tree:
    made: list[Tree] = []
    flat = [part for step in steps for part in (distributed(step) if isinstance(step, Chain) else [step])]
    for step in flat:
        match made:
            case [*_, Group() as last]:
                made[-1] = Chord(last.members, step)
            case [*_, Chord() as last]:
                made[-1] = replace(last, body=_chained([last.body, step]))
            case _:
                made.append(step)
    return made[0] if len(made) == 1 else Chain(tuple(made))


def distributed(chain: Chain) -> list[Tree]:
    """Its steps, with its own links: errbacks are each step's, callbacks the last one's."""
    steps = [linked(step, (), chain.errbacks) for step in chain.steps]
    steps[-1] = linked(steps[-1], chain.links, ())
    return steps


def linked(tree: Tree, links: tuple[Callback, ...], errbacks: tuple[Errback, ...]) -> Tree:
    """With these links, on whatever it is that calls them."""
    if not (links or errbacks):
        return tree
    match tree:
        case Task() | Chain():
            new = tuple(each for each in errbacks if each not in tree.errbacks)
            return replace(tree, links=tree.links + links, errbacks=tree.errbacks + new)
        case Group(members=members):
            first, *others = (linked(member, (), errbacks) for member in members)
            unasked = tuple(replace(callback, immutable=True) for callback in links)
            return replace(tree, members=(linked(first, unasked, ()), *others))
        case Chord(header=header):
            members = tuple(linked(each, (), errbacks) if isinstance(each, Chord) else each for each in header)
            return replace(tree, header=members, body=linked(tree.body, links, errbacks))


def _in_place(tree: Tree) -> Tree:
    """What takes a task's place has one result: of a group a list, by way of a body that gives back what it gets."""
    match tree:
        case Task():
            return tree
        case Chain():
            *before, last = tree.steps
            return replace(tree, steps=(*before, _in_place(last)))
        case Group():
            return Chord(tree.members, Task(_GATHERS))
        case Chord():
            return replace(tree, body=_in_place(tree.body))


def value_of(label: str, args: Sequence[Any]) -> int:
    """Another number for each task, each list of arguments, and each order of them."""
    return zlib.crc32(json.dumps([label, *args]).encode())


def _is_met(chord: Chord, succeeded: int, total: int) -> bool:
    if not chord.collects:
        return False
    threshold = chord.threshold or 0
    return succeeded >= threshold if isinstance(threshold, int) else round(threshold * total, 9) <= succeeded


def _ones(ends: Ends) -> list[One]:
    """In order; what a task has added stands beside it, by id."""
    if isinstance(ends, list):
        return [one for part in ends for one in _ones(part)]
    return sorted([ends, *ends.grown], key=lambda one: one.task_id)


def _groups(tree: Tree) -> list[str]:
    """The id of what a tree ends in, where that is a group."""
    match tree:
        case Task():
            return []
        case Chain():
            return _groups(tree.steps[-1])
        case Group():
            return [tree.name]
        case Chord():
            return _groups(tree.body)


def _grown(ends: Ends) -> list[One]:
    return [one for part in ends for one in _grown(part)] if isinstance(ends, list) else list(ends.grown)


def _values(ends: Ends) -> Any:
    return [_values(part) for part in ends] if isinstance(ends, list) else _value(ends)


def _value(one: One) -> Any:
    """What the body gets for it."""
    if one.status == "SUCCESS":
        return one.result
    return {"task_id": one.task_id, "exc_type": one.result.type, "exc_message": one.result.args}


def _described(result: Any) -> Failure:
    return Failure(result["exc_type"], result["exc_message"])
