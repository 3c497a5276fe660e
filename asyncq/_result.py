"""What became of tasks, for those who sent them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Generic, Literal, TypeVar, cast, overload

from asyncq._result_reader import ResultReader, TaskState
from asyncq.canvas import ResultTree
from asyncq.errors import ResultTimeout
from asyncq.protocol import SavedGroup

__all__ = ["AsyncResult", "GroupResult", "restored", "result_from"]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# `Any` below: a record holds whatever a task returned.

#: Steps before a chain's last one whose end is waited for, too: of those before them FAILURE is found in the last one's
#: own record, while a revocation goes unseen.
_MOST_PARENTS = 100


class AsyncResult(Generic[R_co]):
    """A handle on a task that was sent; it may be made anew from the id, anywhere: `queue.result(task_id)`.

    Every method that asks the backend raises ConfigurationError where results are kept nowhere, and BackendError.
    """

    __slots__ = ("_ignored", "_reader", "duplicate", "parent", "task_id")

    def __init__(
        self,
        task_id: str,
        reader: ResultReader,
        *,
        ignored: bool = False,
        duplicate: bool = False,
        parent: AsyncResult[Any] | None = None,
    ) -> None:
        #: The task's id.
        self.task_id: str = task_id
        #: Nothing was sent: the task is unique (or its idempotency key was used), and this is the one that was there.
        self.duplicate: bool = duplicate
        #: What comes before it, of what was sent with it: a chain's step before, a chord's header. Headers that were
        #: made while they were sent are not known.
        self.parent: AsyncResult[Any] | None = parent
        self._reader = reader
        self._ignored = ignored

    def __repr__(self) -> str:
        return f"<AsyncResult {self.task_id}>"

    @property
    def id(self) -> str:
        """The task's id, as Celery calls it."""
        return self.task_id

    @overload
    async def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    async def get(self, timeout: float | None = None, *, propagate: bool) -> R_co | Exception: ...
    async def get(self, timeout: float | None = None, *, propagate: bool = True) -> R_co | Exception:
        """Wait for the task to end and return its value, or raise its exception.

        `timeout` is in seconds: ResultTimeout when they are over, while the task itself goes on; None waits for ever.
        With `propagate=False` the task's exception is returned, not raised. Of a call that ignores its result this is
        None, at once.
        """
        if self._ignored:
            return None  # type: ignore[return-value]  # the caller asked for no result
        final = self._reader.final_state(self.task_id, self._steps_before())
        state = await _within(timeout, final, f"task {self.task_id} has not ended")
        if propagate and isinstance(state.info, Exception) and state.status != "SUCCESS":
            raise state.info
        return state.info

    @overload
    def get_sync(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> R_co: ...
    @overload
    def get_sync(self, timeout: float | None = None, *, propagate: bool) -> R_co | Exception: ...
    def get_sync(self, timeout: float | None = None, *, propagate: bool = True) -> R_co | Exception:
        """`get` for sync code. Raises RuntimeError in a thread whose event loop runs."""

        async def get() -> R_co | Exception:
            return await self.get(timeout, propagate=propagate)

        return self._reader.portal.call(get, instead="await result.get()")

    async def state(self) -> TaskState:
        """Status, info and traceback of one moment."""
        return await self._reader.state(self.task_id)

    async def status(self) -> str:
        """`PENDING` while nothing is known, which an id that never was, or that expired, is as well."""
        return (await self.state()).status

    async def ready(self) -> bool:
        """True when the task has ended, whichever way."""
        return (await self.state()).ready

    async def info(self) -> Any:
        """The value of SUCCESS, the exception of FAILURE, RETRY and REVOKED, the meta of any other state."""
        return (await self.state()).info

    async def traceback(self) -> str | None:
        """Text of the worker's traceback, of a task that failed."""
        return (await self.state()).traceback

    async def forget(self) -> None:
        """Delete what is stored of the task's result."""
        await self._reader.forget([self.task_id])

    async def revoke(self, *, terminate: bool = False) -> None:
        """Ask that the task shall not run: REVOKED instead, whether it is queued, parked or comes back for a retry.

        With `terminate` it is cancelled where it runs already (within a second or so), and those who wait are told at
        once. Without it they are told as soon as a worker meets its message: nobody else knows whether it runs, and
        then it ends as it ends. Kept for 30 days, so that a worker that is away honours it, too. Celery's workers know
        nothing of it.

        Raises ConfigurationError where neither the broker nor the backend can keep it, BrokerError, BackendError.
        """
        await self._reader.revoke(self.task_id, terminate=terminate)

    async def children(self) -> list[AsyncResult[Any]]:
        """What the task has sent while it ran, and what followed it, as far as its record tells."""
        found = (await self._reader.state(self.task_id)).children
        return [each for each in map(self._child, found) if each is not None]

    def _leaves(self) -> Iterator[AsyncResult[Any]]:
        """The results of tasks that it is made of, and that are stored."""
        if not self._ignored:
            yield self

    def _value(self, states: Mapping[str, TaskState]) -> Any:
        """What came out of it."""
        return None if self._ignored else states[self.task_id].info

    def _child(self, found: object) -> AsyncResult[Any] | None:
        """A record may have been written by anybody; and that of a retry lists the task itself."""
        tree = _read_tuple(found)
        return None if tree is None or tree.id == self.task_id else result_from(tree, self._reader)

    def _steps_before(self) -> list[str]:
        """Tasks of the same chain: when one fails or is revoked this one never runs.

        The nearest ones alone, since each of them is watched (`_MOST_PARENTS`).
        """
        steps: list[str] = []
        step = self.parent
        while step is not None and len(steps) < _MOST_PARENTS:
            if not isinstance(step, GroupResult):  # a chord may live with what has failed in its header
                steps.append(step.task_id)
            step = step.parent
        return steps

    def __aiter__(self) -> AsyncIterator[TaskState]:
        """Each change of state until the final one, which comes last: `async for state in result`.

        Of several changes in a row the last alone may be seen.
        """
        return self._states()

    def _states(self) -> AsyncGenerator[TaskState]:
        return self._reader.states(self.task_id)


class GroupResult(AsyncResult[list[R]], Generic[R]):
    """A handle on the results of a group. `task_id` is the group's own id, under which nothing is stored."""

    __slots__ = ("results",)

    def __init__(
        self,
        group_id: str,
        results: Sequence[AsyncResult[R]],
        reader: ResultReader,
        *,
        parent: AsyncResult[Any] | None = None,
    ) -> None:
        super().__init__(group_id, reader, parent=parent)
        #: The members' results, in order; one of them may be a group's again.
        self.results: tuple[AsyncResult[R], ...] = tuple(results)

    def __repr__(self) -> str:
        return f"<GroupResult {self.task_id} of {len(self)}>"

    def __len__(self) -> int:
        return len(self.results)

    @overload
    async def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> list[R]: ...
    @overload
    async def get(self, timeout: float | None = None, *, propagate: bool) -> list[R] | Exception: ...
    async def get(self, timeout: float | None = None, *, propagate: bool = True) -> list[R] | Exception:
        """Wait for all members and return their values, in order; raise what a member raises as soon as it has failed.

        `timeout` is in seconds: ResultTimeout when they are over. With `propagate=False` that exception is returned.
        """
        state = await _within(timeout, self._final_state(), f"group {self.task_id} has not ended")
        if propagate and isinstance(state.info, Exception):
            raise state.info
        return state.info

    @overload
    async def join(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> list[R]: ...
    @overload
    async def join(self, timeout: float | None = None, *, propagate: bool) -> list[R | Exception]: ...
    async def join(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """As `get`; with `propagate=False` wait for all, with exceptions in place of values."""
        if propagate:
            return await self.get(timeout)
        states = await _within(timeout, self._all_states(), f"group {self.task_id} has not ended")
        return self._arranged(states)

    async def as_completed(self) -> AsyncGenerator[AsyncResult[R]]:
        """Each member's result when it has ended, whichever way: `async for result in results.as_completed()`."""
        members = {leaf.task_id: member for member in self.results for leaf in member._leaves()}
        left = Counter(members.values())
        async with aclosing(self._ended()) as ended:
            async for task_id, _ in ended:
                member = members[task_id]
                left[member] -= 1
                if not left[member]:
                    yield member

    async def state(self) -> TaskState:
        """`SUCCESS` with the values when all have succeeded; `FAILURE` with its exception when one has failed; else
        `STARTED` when one is known to have begun, or `PENDING`.
        """
        return self._as_one(await self._known())

    async def ready(self) -> bool:
        """All have ended, whichever way."""
        return all(state.ready for state in (await self._known()).values())

    async def successful(self) -> bool:
        """All have succeeded."""
        return (await self.state()).status == "SUCCESS"

    async def failed(self) -> bool:
        """One has failed, or was revoked."""
        return (await self.state()).status == "FAILURE"

    async def completed_count(self) -> int:
        """How many have succeeded, those of groups among them one by one."""
        return sum(state.status == "SUCCESS" for state in (await self._known()).values())

    async def children(self) -> list[AsyncResult[Any]]:
        """The members' results."""
        return list(self.results)

    async def save(self) -> None:
        """Keep its id with those of its members, as long as results are kept: `await queue.restore_group(task_id)`.

        On Redis Celery's clients find it, too. Raises ConfigurationError where nothing can be kept.
        """
        await self._reader.save_group(self._saved())

    async def forget(self) -> None:
        """Delete what is stored of the members' results, and what `save` has kept."""
        await self._reader.forget(self._ids())
        await self._reader.forget_group(self.task_id)

    async def revoke(self, *, terminate: bool = False) -> None:
        """Ask that none of the members shall run, as `AsyncResult.revoke` does of one."""
        for task_id in self._ids():
            await self._reader.revoke(task_id, terminate=terminate)

    async def _states(self) -> AsyncGenerator[TaskState]:
        """The group's state, and each change of it, up to the final one."""
        known = await self._known()
        seen = self._as_one(known)
        yield seen
        async with aclosing(self._reader.changes(self._ids())) as changes:
            while not seen.ready:
                task_id, state = await anext(changes)
                if state.status == known[task_id].status:
                    continue
                known[task_id] = state
                state = self._as_one(known)
                if state.status != seen.status:
                    seen = state
                    yield seen

    def _saved(self) -> SavedGroup:
        members = [each._saved() if isinstance(each, GroupResult) else each.task_id for each in self.results]
        return SavedGroup(group_id=self.task_id, members=members)

    def _leaves(self) -> Iterator[AsyncResult[Any]]:
        for result in self.results:
            yield from result._leaves()

    def _ids(self) -> list[str]:
        return [leaf.task_id for leaf in self._leaves()]

    async def _known(self) -> dict[str, TaskState]:
        ids = self._ids()
        return dict(zip(ids, await self._reader.many(ids), strict=True)) if ids else {}

    async def _ended(self) -> AsyncGenerator[tuple[str, TaskState]]:
        """Each task's final state, when it is there."""
        waiting = set(self._ids())
        async with aclosing(self._reader.changes(list(waiting))) as changes:
            while waiting:
                task_id, state = await anext(changes)
                if state.ready and task_id in waiting:
                    waiting.remove(task_id)
                    yield task_id, state

    async def _all_states(self) -> dict[str, TaskState]:
        return {task_id: state async for task_id, state in self._ended()}

    async def _final_state(self) -> TaskState:
        ended: dict[str, TaskState] = {}
        async with aclosing(self._ended()) as each:
            async for task_id, state in each:
                if state.status != "SUCCESS":
                    return state
                ended[task_id] = state
        return self._as_one(ended)

    def _as_one(self, states: Mapping[str, TaskState]) -> TaskState:
        for state in states.values():
            if state.ready and state.status != "SUCCESS":
                return TaskState(status="FAILURE", info=state.info, traceback=state.traceback)
        if all(state.ready for state in states.values()):
            return TaskState(status="SUCCESS", info=self._arranged(states))
        begun = any(state.status != "PENDING" for state in states.values())
        return TaskState(status="STARTED" if begun else "PENDING")

    def _arranged(self, states: Mapping[str, TaskState]) -> list[Any]:
        """What came out of the members, a list for each group among them."""
        return [each._value(states) for each in self.results]

    def _value(self, states: Mapping[str, TaskState]) -> Any:
        return self._arranged(states)


def result_from(tree: ResultTree, reader: ResultReader) -> AsyncResult[Any]:
    """A handle on what a canvas will have for results."""
    line = [tree]
    while line[-1].parent is not None:  # no recursion: chains may be long
        line.append(line[-1].parent)
    result = _handle(line.pop(), reader, None)
    while line:
        result = _handle(line.pop(), reader, result)
    return result


def restored(saved: SavedGroup, reader: ResultReader) -> GroupResult[Any]:
    """A handle on a group that was saved."""
    members = [
        AsyncResult[Any](each, reader) if isinstance(each, str) else restored(each, reader) for each in saved.members
    ]
    return GroupResult(saved.group_id, members, reader)


def _handle(tree: ResultTree, reader: ResultReader, parent: AsyncResult[Any] | None) -> AsyncResult[Any]:
    if tree.members is None:
        return AsyncResult(tree.id, reader, parent=parent, ignored=tree.ignored)
    members = [result_from(member, reader) for member in tree.members]
    return GroupResult(tree.id, members, reader, parent=parent)


def _read_tuple(found: object) -> ResultTree | None:
    """Celery's form of a result, `[[id, parent], members]` (results.md, 6); None for anything else."""
    match cast("Any", found):
        case [[str() as own_id, parent], members]:
            before = _read_tuple(parent)
            if not isinstance(members, list):
                return ResultTree(own_id, None, before)
            children = map(_read_tuple, cast("list[object]", members))
            return ResultTree(own_id, [each for each in children if each is not None], before)
        case _:
            return None


async def _within(timeout: float | None, waiting: Awaitable[T], otherwise: str) -> T:
    """Raises ResultTimeout when the time, in seconds, is over."""
    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            return await waiting
    except TimeoutError:
        if not scope.expired():
            raise
        raise ResultTimeout(f"{otherwise} within {timeout:g} seconds") from None
