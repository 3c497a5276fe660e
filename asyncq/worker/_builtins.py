"""Tasks that every worker has, because messages and signatures name them (canvas.md, 14)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, cast

import anyio
import anyio.to_thread

from asyncq._chain_rest import keep_rest, load_rest
from asyncq._context import Context
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq.canvas import CHAIN_REST, ChordNode, GroupNode, Node, TaskNode, read_node
from asyncq.driver import Coordination, ResultBackend
from asyncq.errors import BackendError, BrokerError, ChordError, ConfigurationError, NotRegistered, ProtocolError
from asyncq.protocol import (
    READY_STATES,
    ResultRecord,
    SavedGroup,
    decode_group,
    decode_result,
    describe_exception,
    dumps,
)
from asyncq.worker._attempt import Attempt
from asyncq.worker._continuation import Continuation, dependency_text
from asyncq.worker._dispatches import dispatch_name
from asyncq.worker._program import Program
from asyncq.worker._sequel import Completion, Sequel
from asyncq.worker._setup import WorkerSetup

logger = logging.getLogger("asyncq.worker")

# `Any` below: arguments of whoever has sent the message, and what the tasks of the app return.

#: Items of `celery.map` and its kind that run in threads at a time, over all runs.
_THREADS = 16


#: Seconds that a piece of a long chain is kept once it was reached: this step may come again, and nobody else needs it.
_REST_IS_KEPT = 86400.0


class Builtins:
    """What they do. Each is a task like any other, and may be replaced by one of the app's own of the same name."""

    def __init__(
        self,
        setup: WorkerSetup,
        programs: Mapping[str, Program],
        continuation: Continuation,
        coordination: Coordination | None,
    ) -> None:
        """`programs` are all tasks of the worker, these among them once they are known."""
        self._setup = setup
        self._programs = programs
        self._continuation = continuation
        self._coordination = coordination
        self._threads = anyio.CapacityLimiter(_THREADS)

    def definitions(self) -> dict[str, TaskDefinition]:
        """By name."""
        tasks: Mapping[str, Callable[..., Awaitable[Any]]] = {
            "celery.accumulate": self.accumulate,
            "celery.map": self.map,
            "celery.starmap": self.starmap,
            "celery.chunks": self.chunks,
            "celery.group": self.group,
            "celery.chord": self.chord,
            "celery.chain": self.chain,
            "celery.chord_unlock": self.chord_unlock,
            "celery.backend_cleanup": self.backend_cleanup,
            CHAIN_REST: self.chain_rest,
        }
        # A chord is waited for as long as it takes, and a server that is away may come back: the broker's, too, where
        # the rest of a long chain is kept.
        options = TaskOptions(max_retries=None, retry_on=(BackendError, BrokerError))
        return {
            name: TaskDefinition(name=name, fn=fn, is_coroutine=True, takes_context=True, options=options)
            for name, fn in tasks.items()
        }

    # -- calls of another task's function ----------------------------------------------------------------------

    async def accumulate(self, _ctx: Context, *args: Any, index: Any = None) -> Any:
        """Its arguments, or one of them."""
        return list(args) if index is None else args[index]

    async def map(self, ctx: Context, task: Any, it: Any) -> list[Any]:
        """The task's function for each item, one after the other."""
        return [await self._call(ctx, task, [item]) for item in it]

    async def starmap(self, ctx: Context, task: Any, it: Any) -> list[Any]:
        """The same for lists of arguments."""
        return [await self._call(ctx, task, list(item)) for item in it]

    async def _call(self, ctx: Context, task: Any, args: list[Any]) -> Any:
        """Raises NotRegistered, InvalidArguments, and what the function raises."""
        node = read_node(task)
        name = node.task if isinstance(node, TaskNode) else type(node).__name__
        program = self._programs.get(name)
        if program is None:
            raise NotRegistered(name)
        values, kwargs = (args, {}) if program.validate is None else program.validate(args, {})
        definition = program.definition
        if definition.takes_context:
            values = [ctx, *values]
        if definition.is_coroutine:
            return await definition.fn(*values, **kwargs)
        call = partial(definition.fn, *values, **kwargs)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)

    # -- canvases that are sent as messages --------------------------------------------------------------------

    async def chunks(self, ctx: Context, task: Any, it: Any, n: Any) -> Any:
        """Send a group of `celery.starmap`, each for `n` items; the result says where theirs will be."""
        items: list[Any] = list(it)
        starmaps: list[Node] = [
            TaskNode(task="celery.starmap", kwargs={"task": task, "it": items[first : first + int(n)]}, immutable=True)
            for first in range(0, len(items), int(n))
        ]
        return self._send(ctx, GroupNode(tasks=starmaps), [])

    async def group(
        self, ctx: Context, tasks: Any, _result: Any = None, group_id: Any = None, partial_args: Any = (), **_how: Any
    ) -> Any:
        """Send a group. What older clients have sent."""
        options = {} if group_id is None else {"task_id": group_id}
        return self._send(ctx, GroupNode(tasks=[read_node(each) for each in tasks], options=options), partial_args)

    async def chord(self, ctx: Context, header: Any, body: Any, partial_args: Any = (), **_how: Any) -> Any:
        """Send a chord. What older clients have sent."""
        found = [cast("object", header)] if isinstance(header, dict) else cast("list[object]", header)
        nodes = [read_node(each) for each in found]
        match nodes:
            case [GroupNode() as group]:
                pass
            case _:
                group = GroupNode(tasks=nodes)
        return self._send(ctx, ChordNode(header=group, body=read_node(body)), partial_args)

    async def chain(self, _ctx: Context, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Chains are no tasks, in Celery either."""
        raise NotImplementedError("a chain is sent as its first step")

    async def chain_rest(self, ctx: Context, *args: Any, key: str, last: Any = None) -> Any:  # noqa: ARG002 - `last` is read where the chain fails before
        """Go on with the steps of a long chain that are kept apart; the result is that of the step before."""
        if self._coordination is None:
            raise ConfigurationError("the rest of this chain is kept where this worker can't read it")
        rest = await load_rest(self._coordination, key)
        await keep_rest(self._coordination, {key: rest}, ttl=_REST_IS_KEPT)
        ctx.message.chain = [*(ctx.message.chain or ()), *rest]
        return args[0] if args else None

    def _send(self, ctx: Context, node: Node, args: Sequence[Any]) -> Any:
        """With the end of this task, as all that follows from it: lost it can't be, and a repeat sends the same."""
        sequel = self._continuation.sent_by(ctx.message, node, list(args))
        _attempt_of(ctx).sequel = sequel
        return sequel.children[0]

    # -- chords of backends that can't join --------------------------------------------------------------------

    async def chord_unlock(
        self,
        ctx: Context,
        group_id: Any,
        callback: Any,
        *,
        interval: Any = None,
        max_retries: Any = None,
        result: Any = None,
        **_how: Any,
    ) -> None:
        """Look again and again until the header has ended, then send the body (canvas.md, 10)."""
        backend = self._setup.backend
        if backend is None:
            raise ConfigurationError("there is no result backend to find the header's results in")
        completion = Completion(body=callback, root_id=ctx.root_id or ctx.task_id, parent_id=ctx.task_id)
        try:
            group = decode_group(dumps({"result": [[group_id, None], result or []]}))
            records = await self._records(backend, group)
            sequel = None if records is None else self._end(completion, group, records)
        except (ProtocolError, ConfigurationError) as error:  # who waits for the body must be told
            described = describe_exception(error)
            sequel = self._continuation.after_header_failure(completion, ChordError(str(error)), described)
        if sequel is None:
            countdown = self._setup.chord_retry_interval if interval is None else float(interval)
            raise ctx.retry(countdown=countdown, max_retries=max_retries)
        _attempt_of(ctx).sequel = sequel

    def _end(self, completion: Completion, group: SavedGroup, records: Sequence[ResultRecord]) -> Sequel:
        failed = next((record for record in records if record.status != "SUCCESS"), None)
        if failed is not None:
            found: object = failed.result
            cause = cast("dict[str, Any]", found) if isinstance(found, dict) else None
            error = ChordError(dependency_text(failed.task_id, cause))
            return self._continuation.after_header_failure(completion, error, cause)
        results = group.arrange(iter([record.result for record in records]))
        dispatch = dispatch_name(group.group_id, self._setup.environment.new_id())
        return self._continuation.after_header(completion, results, dispatch=dispatch)

    async def _records(self, backend: ResultBackend, group: SavedGroup) -> list[ResultRecord] | None:
        """None as long as one of them has not ended."""
        setup = self._setup
        accept = {*setup.accept, setup.result_serializer}
        records: list[ResultRecord] = []
        for raw in await backend.get(list(group.task_ids())):
            record = None if raw is None else decode_result(raw, limits=setup.limits, accept=accept)
            if record is None or record.status not in READY_STATES:
                return None
            records.append(record)
        return records

    async def backend_cleanup(self, _ctx: Context) -> None:
        """Nothing: backends of asyncq's forget what has expired by themselves."""


def _attempt_of(ctx: Context) -> Attempt:
    return cast("Attempt", ctx._attempt)
