"""Tasks that do harm: what a worker must survive, and those who run beside them as well. And some that are only odd.

Each puts on record that it begins (PERIL): how often, when, and where.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import socket
import time
from typing import Literal

from asyncq import AsyncQ, Context, SoftTimeLimitExceeded
from chaos.ledger import Ledger

#: Seconds for which a task holds the loop that nobody stops: beyond every bound.
_FOR_EVER = 60.0


def declare_perils(app: AsyncQ, ledger: Ledger) -> None:
    def begin(ctx: Context) -> None:
        ledger.write("PERIL", ctx.task_id, ctx.task_name)

    @app.task(name="chaos.passes", max_retries=0)
    async def passes(ctx: Context) -> None:
        """Harmless."""
        begin(ctx)

    @app.task(name="chaos.tries_again", max_retries=1)
    async def tries_again(ctx: Context, countdown: float) -> None:
        """Harmless: fails once, and is wanted again after so many seconds."""
        begin(ctx)
        if ctx.retries == 0:
            raise ctx.retry(countdown=countdown)

    @app.task(name="chaos.overstays", max_retries=0, soft_time_limit=1)
    async def overstays(ctx: Context) -> None:
        """Harmless: sleeps until it is told that its time is over."""
        begin(ctx)
        try:
            await asyncio.sleep(_FOR_EVER)
        except SoftTimeLimitExceeded:
            begin(ctx)

    @app.task(name="chaos.dies", max_retries=0)
    async def dies(ctx: Context, how: Literal["exit", "segfault"]) -> None:
        """Takes its process with it."""
        begin(ctx)
        await asyncio.sleep(0.1)  # beside others
        if how == "exit":
            os._exit(139)
        ctypes.string_at(0)

    @app.task(name="chaos.devours", max_retries=0)
    async def devours(ctx: Context, size: int) -> int:
        """Takes so many bytes of memory, where it gets them."""
        begin(ctx)
        await asyncio.sleep(0.1)
        return len(bytes(size))

    @app.task(name="chaos.blocks", max_retries=0, time_limit=5)
    async def blocks(ctx: Context, how: Literal["python", "regex", "sleep"]) -> None:
        """Holds the loop; the regular expression holds the interpreter as well."""
        begin(ctx)
        if how == "python":
            end = time.monotonic() + _FOR_EVER
            while time.monotonic() < end:
                pass
        elif how == "regex":
            re.match(r"(a+)+$", "a" * 40 + "b")
        else:
            time.sleep(_FOR_EVER)  # noqa: ASYNC251 - that is the point

    @app.task(name="chaos.swallows", max_retries=0, time_limit=5)
    async def swallows(ctx: Context) -> None:
        """Cannot be cancelled, and records each attempt."""
        begin(ctx)
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError as error:
                ledger.write("PERIL", ctx.task_id, type(error).__name__)

    @app.task(name="chaos.hoards", max_retries=0)
    async def hoards(ctx: Context, seconds: float) -> int:
        """Opens sockets until there are no descriptors left, and keeps them for so long."""
        begin(ctx)
        held: list[socket.socket] = []
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                try:
                    held.append(socket.socket())
                except OSError:
                    await asyncio.sleep(0.05)  # whatever is given back meanwhile it takes as well
        finally:
            for each in held:
                each.close()
        return len(held)
