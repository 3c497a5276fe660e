"""The app of these tests. Workers and quarantined processes import it; the environment says where its servers are."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel

from asyncq import AsyncQ, Context, Middleware
from asyncq.errors import Reject, SoftTimeLimitExceeded, TimeLimitExceeded
from chaos.ledger import Ledger
from waiting import Gate

ledger = Ledger(os.environ.get("SUSPECTS_LEDGER", os.devnull))

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Tenants(Middleware):
    async def run(self, ctx: Context, forward: Any) -> Any:
        tenant.set(ctx.headers.get("tenant", "unknown"))
        return await forward()


queue = AsyncQ("suspects", middleware=[Tenants()], kill_grace=0.5)


class Order(BaseModel):
    number: int


class Awkward(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


@queue.lifespan
async def pool() -> AsyncIterator[str]:
    if exclusive := os.environ.get("SUSPECTS_EXCLUSIVE"):
        os.close(os.open(exclusive, os.O_CREAT | os.O_EXCL))
    ledger.write("OPENED", "pool")
    yield f"pool of {os.getpid()}"
    ledger.write("CLOSED", "pool")


@queue.dependency
async def session(ctx: Context) -> AsyncIterator[str]:
    yield f"session of {ctx.task_id}"
    ledger.write("CLOSED", "session")


@queue.task
async def innocent(ctx: Context, pause: float = 0.0) -> int:
    ledger.write("START", ctx.task_id)
    await asyncio.sleep(pause)
    ledger.write("END", ctx.task_id)
    return os.getpid()


@queue.task
def innocent_in_thread(ctx: Context) -> int:
    ledger.write("START", ctx.task_id)
    return os.getpid()


@queue.task
async def exits(ctx: Context, code: int = 3) -> None:
    ledger.write("START", ctx.task_id)
    os._exit(code)


@queue.task
async def leaves_a_bomb(ctx: Context, gate: str) -> int:
    """Ends well. What it leaves behind kills the process when somebody opens the gate."""
    threading.Thread(target=_explode, args=[Gate(gate)], daemon=True).start()
    return os.getpid()


def _explode(gate: Gate) -> None:
    gate.wait()
    os._exit(7)


@queue.task
def segfaults(ctx: Context) -> None:
    ledger.write("START", ctx.task_id)
    ctypes.string_at(0)


@queue.task
async def holds_the_interpreter(ctx: Context) -> None:
    ledger.write("START", ctx.task_id)
    re.match(r"(a+)+$", "a" * 60 + "b")


@queue.task
async def kills_itself(ctx: Context) -> None:
    ledger.write("START", ctx.task_id)
    os.kill(os.getpid(), signal.SIGKILL)


@queue.task(executor="process")
def exits_in_process(code: int) -> None:
    os._exit(code)


@queue.task(executor="process")
def raises_awkwardly() -> None:
    raise Awkward(code=7)


@queue.task(acks_late=False)
async def early(ctx: Context, pause: float = 3600.0) -> None:
    ledger.write("START", ctx.task_id)
    await asyncio.sleep(pause)


@queue.task
async def is_told(task_id: str) -> None:
    ledger.write("TOLD", task_id)


@queue.task
async def looks_around(ctx: Context) -> dict[str, Any]:
    await ctx.progress({"half": True})
    child = await innocent.send()
    return {
        "pid": os.getpid(),
        "pool": ctx[pool],
        "session": await ctx.use(session),
        "tenant": tenant.get(),
        "colour": ctx.headers["colour"],
        "redelivered": ctx.redelivered,
        "node": ctx.node,
        "child": child.id,
    }


@queue.task(max_retries=2, retry_on=(Awkward,), retry_backoff=0.01)
async def raises_what_cannot_cross(ctx: Context) -> None:
    ledger.write("RUN", ctx.task_id)
    raise Awkward(code=ctx.retries)


@queue.task
async def fails_awkwardly() -> None:
    raise Awkward(code=2)


@queue.task
async def asks_again(ctx: Context) -> int:
    if ctx.retries == 0:
        raise ctx.retry(countdown=0.01)
    return ctx.retries


@queue.task
async def snoozes(ctx: Context) -> None:
    raise ctx.snooze(3600)


@queue.task
async def rejects(ctx: Context) -> None:
    raise Reject("not this one")


@queue.task
async def takes_an_order(order: Order) -> Order:
    return Order(number=order.number + 1)


@queue.task
async def returns_a_generator() -> Iterator[int]:
    return (number for number in range(3))


@queue.task(soft_time_limit=0.3)
async def is_told_to_stop(ctx: Context) -> str:
    try:
        await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        return "told"
    return "never"


@queue.task
def takes_memory() -> int:
    return len(bytearray(4 << 30))


@queue.task(retry_on=(TimeLimitExceeded,), retry_backoff=0.01)
async def may_be_tried_again(ctx: Context) -> int:
    ledger.write("START", ctx.task_id)
    return ctx.retries


@queue.task(acks_on_failure_or_timeout=False)
async def is_never_acknowledged_failing(ctx: Context) -> None:
    ledger.write("START", ctx.task_id)


def _declare() -> None:
    @queue.task(name="suspects.shop.hidden")
    async def hidden() -> int:  # pyright: ignore[reportUnusedFunction] - the worker calls it
        return os.getpid()


_declare()


@queue.task(time_limit=0.5)
async def blocks() -> None:
    time.sleep(3600)  # noqa: ASYNC251 - that is the fault
