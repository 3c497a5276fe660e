"""What `asyncq check` looks at."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Self

from asyncq.cli._drivers import opened, queue_names
from asyncq.cli._output import counted
from asyncq.errors import AsyncqError, BackendConnectionError, BrokerConnectionError

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq.driver import Broker, BrokerCapabilities, ResultBackend


class Verdict(StrEnum):
    """How one thing stands."""

    OK = "ok"
    #: It works, and there is something to know.
    NOTE = "note"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str


async def examine(queue: AsyncQ) -> list[Finding]:
    """Look at the app, its broker, its result backend and this machine, and go on where one of them fails."""
    return [
        *_tasks(queue),
        *[finding async for finding in _guarded("broker", lambda: _broker(queue))],
        *[finding async for finding in _guarded("results", lambda: _results(queue))],
        *_policies(queue),
        *_machine(),
    ]


async def _guarded(subject: str, look: Callable[[], AsyncGenerator[Finding]]) -> AsyncGenerator[Finding]:
    """What `look` finds, what the driver had to say meanwhile, and the failure that ended it."""
    try:
        with _Remarks() as remarks:
            async for finding in look():
                yield finding
        for remark in remarks.heard:
            yield Finding(subject, Verdict.NOTE, remark)
    except (BrokerConnectionError, BackendConnectionError) as error:
        yield Finding(subject, Verdict.UNREACHABLE, str(error))
    except AsyncqError as error:
        yield Finding(subject, Verdict.FAILED, str(error))


class _Remarks(logging.Handler):
    """Hears what drivers log of their server: what an operator ought to know of it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.heard: list[str] = []
        self._loggers = [logging.getLogger(name) for name in ("asyncq_brokers", "asyncq_backends")]

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())

    def __enter__(self) -> Self:
        for logger in self._loggers:
            logger.addHandler(self)
            logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self._loggers:
            logger.removeHandler(self)


def _tasks(queue: AsyncQ) -> Generator[Finding]:
    if queue.tasks:
        yield Finding("tasks", Verdict.OK, ", ".join(sorted(queue.tasks)))
    else:
        yield Finding("tasks", Verdict.NOTE, "none: this app can send, but a worker of it has nothing to run")


async def _broker(queue: AsyncQ) -> AsyncGenerator[Finding]:
    broker = queue.make_broker()
    started = perf_counter()
    async with opened(broker):
        yield Finding("broker", Verdict.OK, f"{broker.address} answers ({_milliseconds(started)})")
        for finding in _weaknesses(broker.capabilities):
            yield finding
        for finding in _too_long(queue, broker.capabilities.hold_limit):
            yield finding
        for name in queue_names(queue, None):
            yield await _depth(broker, name)


def _weaknesses(capabilities: BrokerCapabilities) -> Generator[Finding]:
    if not capabilities.shared:
        yield Finding("broker", Verdict.NOTE, "it lives in one process: nothing sent elsewhere arrives here")
    elif not capabilities.durable:
        yield Finding("broker", Verdict.NOTE, "messages do not survive its restart")


def _too_long(queue: AsyncQ, hold_limit: float | None) -> Generator[Finding]:
    """Late-acknowledged tasks that may run for longer than the broker leaves a message to anybody."""
    if hold_limit is None:
        return
    safe = hold_limit - 300  # a task ends a while after its limit, and is acknowledged after that
    settings = queue.settings
    names = [
        name
        for name, task in sorted(queue.tasks.items())
        if (settings.acks_late if task.definition.options.acks_late is None else task.definition.options.acks_late)
        and (task.definition.options.time_limit or settings.time_limit or inf) > safe
    ]
    if names:
        yield Finding(
            "broker",
            Verdict.NOTE,
            f"what is not acknowledged within {hold_limit / 60:.0f} minutes (or what the server is set to) is given to "
            f"others as well; these have no time_limit of at most {safe / 60:.0f} minutes: {', '.join(names)}",
        )


async def _depth(broker: Broker, name: str) -> Finding:
    depth = await broker.depth(name)
    ready = f"{counted(depth.ready, 'message')} ready"
    if depth.dead:
        return Finding(f"queue {name}", Verdict.NOTE, f"{ready}, and {counted(depth.dead, 'dead letter')} for you")
    return Finding(f"queue {name}", Verdict.OK, ready)


async def _results(queue: AsyncQ) -> AsyncGenerator[Finding]:
    backend = queue.make_backend()
    if backend is None:
        yield Finding(
            "results", Verdict.NOTE, "kept nowhere, so nobody can ask for one; AsyncQ(…, backend=…) keeps them"
        )
        return
    started = perf_counter()
    async with opened(backend):
        if await _keeps_records(backend):
            text = f"{backend.address} keeps what it is given ({_milliseconds(started)})"
            yield Finding("results", Verdict.OK, text)
        else:
            yield Finding("results", Verdict.FAILED, f"{backend.address} does not give back what was stored")


async def _keeps_records(backend: ResultBackend) -> bool:
    from asyncq._clock import new_id
    from asyncq.driver import Replying, StoredResult
    from asyncq.protocol import ResultRecord, encode_result

    probe = new_id()
    record = encode_result(ResultRecord(task_id=probe, status="SUCCESS"))
    reply_to = await backend.reply_address() if isinstance(backend, Replying) else None
    await backend.store([StoredResult(task_id=probe, record=record, status="SUCCESS", expires=60, reply_to=reply_to)])
    try:
        if reply_to is not None:
            await _heard(backend, probe)
        return await backend.get([probe]) == [record]
    finally:
        await backend.forget([probe])


async def _heard(backend: ResultBackend, task_id: str) -> None:
    """Wait for a reply, which takes its way through the server, but not for ever."""
    import anyio

    with anyio.move_on_after(5):
        async with backend.watch([task_id]) as changes:
            await anext(aiter(changes))


def _policies(queue: AsyncQ) -> Generator[Finding]:
    """What to allow where a policy says who may do what: the least that will do."""
    from json import dumps

    from asyncq.driver import Permitted

    try:
        drivers = [driver for driver in (queue.make_broker(), queue.make_backend()) if isinstance(driver, Permitted)]
    except AsyncqError:  # told above
        return
    names = queue_names(queue, None)
    for role in ("producer", "worker") if drivers else ():
        statements = [statement for driver in drivers for statement in driver.policy(role, names)]
        text = dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)
        yield Finding(f"IAM policy of a {role}", Verdict.NOTE, f"the least it needs\n{text}")


def _machine() -> Generator[Finding]:
    if find_spec("uvloop") is None:
        yield Finding(
            "speed", Verdict.NOTE, "uvloop is not installed; a worker is faster with it: pip install 'asyncq[fast]'"
        )


def _milliseconds(started: float) -> str:
    return f"{(perf_counter() - started) * 1000:.0f} ms"
