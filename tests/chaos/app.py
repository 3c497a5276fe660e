"""The app under test: its tasks tell the ledger what they do."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any
from zlib import crc32

from msgspec import Struct

from asyncq import AsyncQ, Context, Retry
from chaos.gauges import descriptors
from chaos.ledger import Ledger


class Settings(Struct, frozen=True, kw_only=True):
    """What the app is made of, in every process alike."""

    broker: str
    backend: str
    ledger: str
    lease: float
    network_timeout: float
    #: More of asyncq's settings.
    more: dict[str, Any] = {}


def checksum(*arguments: object) -> str:
    """Of what was sent, and of what came."""
    return f"{crc32(repr(arguments).encode()):08x}"


@contextmanager
def run_on_record(ledger: Ledger, ctx: Context, *arguments: object) -> Generator[str]:
    """Records a run from its first line to its last. Gives the value to return, which names this very run."""
    attempt: Any = ctx._attempt  # Any: its type there has no delivery, which no task needs
    tag = "" if attempt is None else attempt.delivery.tag
    number = ctx.node.partition("@")[0].rpartition("-")[2]
    own: Any = {"attempt": ctx.retries, "tag": tag, "generation": int(number) if number.isdigit() else 0}

    def end(outcome: str) -> None:
        ledger.write("END", ctx.task_id, outcome, **own)

    value = token_hex(4)
    ledger.write("START", ctx.task_id, checksum(*arguments), **own)
    try:
        yield value
    except asyncio.CancelledError:
        end("interrupted")
        raise
    except Retry:
        end("retry")
        raise
    except BaseException as error:
        end(f"failure {type(error).__name__}"[:24])
        raise
    else:
        end(f"success {value}")


def make_app(settings: Settings) -> AsyncQ:
    app = AsyncQ(
        "chaos",
        broker=settings.broker,
        backend=settings.backend,
        lease=settings.lease,
        network_timeout=settings.network_timeout,
        **settings.more,
    )
    declare_tasks(app, Ledger(settings.ledger))
    return app


def declare_tasks(app: AsyncQ, ledger: Ledger) -> None:
    @app.lifespan
    async def presence() -> AsyncIterator[None]:
        ledger.write("UP")
        yield
        ledger.write("DOWN")

    @app.task(name="chaos.work")
    async def work(ctx: Context, pause: float, body: str) -> str:
        """The standard load's: it waits, and has one effect."""
        with run_on_record(ledger, ctx, pause, body) as value:
            await asyncio.sleep(pause)
            ledger.write("EFFECT", ctx.task_id)
        return value

    @app.task(name="chaos.toil")
    def toil(ctx: Context, pause: float, body: str) -> str:
        """The same in a thread, where nobody can end it."""
        with run_on_record(ledger, ctx, pause, body) as value:
            time.sleep(pause)
            ledger.write("EFFECT", ctx.task_id)
        return value

    @app.task(name="chaos.forgettable", ignore_result=True)
    async def forgettable(ctx: Context, pause: float, body: str) -> None:
        """The same, and nobody wants its result."""
        with run_on_record(ledger, ctx, pause, body):
            await asyncio.sleep(pause)
            ledger.write("EFFECT", ctx.task_id)

    @app.task(name="chaos.step")
    async def step(ctx: Context, before: str, pause: float) -> str:
        """A chain's: tells what the one before has given it."""
        with run_on_record(ledger, ctx, pause) as value:
            ledger.write("GIVEN", ctx.task_id, f"0 {before}")
            await asyncio.sleep(pause)
        return value

    @app.task(name="chaos.gather")
    async def gather(ctx: Context, values: list[str], pause: float) -> str:
        """A chord's body: tells what the header has given it, and which sending of it this is."""
        with run_on_record(ledger, ctx, pause) as value:
            ledger.write("SENDING", ctx.task_id, checksum(ctx.message.dispatch or ""))
            for place, each in enumerate(values):
                ledger.write("GIVEN", ctx.task_id, f"{place} {each}")
            await asyncio.sleep(pause)
        return value

    @app.task(name="chaos.census")
    async def census() -> tuple[int, int, int]:
        """Pid, asyncio tasks and descriptors of the worker that gets it."""
        return os.getpid(), len(asyncio.all_tasks()), descriptors()


class LedgerHandler(logging.Handler):
    """Records that a worker has told of something: only then has anybody a chance to notice it."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.WARNING)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        self._ledger.write("LOG", "-", record.name.rpartition(".")[2][:24])
