"""The work of a simulated run: tasks of every kind, the calls of them, and what may become of each."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from msgspec import Struct

from asyncq._context import Context
from asyncq._unique import HEADER, UniqueRule
from asyncq.errors import Reject, Snooze, SoftTimeLimitExceeded
from simulation.history import History
from simulation.world import World, tag_of

Body: TypeAlias = Callable[[Context, int, float, int], Awaitable[str]]

#: Options of each kind of task.
KINDS: dict[str, dict[str, Any]] = {
    "work": {},
    "early": {"acks_late": False},
    "silent": {"ignore_result": True},
    "tracked": {"track_started": True},
    "fails": {"throws": (ValueError,)},
    "flaky": {"retry_on": (OSError,), "throws": (OSError,), "max_retries": 3},
    "asks": {},
    "snoozes": {},
    "rejects": {},
    "limited": {"rate_limit": "5/s"},
    "fleet": {"rate_limit": "5/s", "limit_scope": "fleet"},
    "bounded": {"max_running": 2},
    # The header of the message says which key it holds.
    "unique": {"unique": UniqueRule(key_of=lambda args, kwargs: "", scope="running", on_conflict="skip")},
    "soft": {"soft_time_limit": 1.0},
    "overdue": {"time_limit": 2.0},
    "swallows": {"time_limit": 2.0},
}

#: What nobody has registered, and what nobody can decode.
UNKNOWN, POISON = "unknown", "poison"


class Call(Struct, eq=False):
    """One send."""

    task_id: str
    kind: str
    value: int
    #: Of work.
    seconds: float
    #: How often it fails before it succeeds.
    failures: int
    #: UNIX seconds before which it must not start.
    eta: float = 0.0
    #: It may end as REVOKED.
    may_be_revoked: bool = False

    @property
    def answer(self) -> str:
        return answer(self.task_id, self.value)

    @property
    def headers(self) -> dict[str, Any] | None:
        if self.kind != "unique":
            return None
        return {HEADER: {"key": f"unique.{self.value % 3}", "scope": "running" if self.value % 2 else "queued"}}

    def expected(self) -> set[str]:
        """The states that it may end in where nothing goes wrong."""
        fails = self.kind in {"fails", "overdue", "swallows", UNKNOWN} or (self.kind == "flaky" and self.failures > 3)
        states = {"FAILURE" if fails else "SUCCESS"}
        if self.may_be_revoked:
            # What expires before its retry would come has failed.
            states |= {"REVOKED", "FAILURE"} if self.kind in {"flaky", "asks"} else {"REVOKED"}
        return states

    def attempts(self) -> int:
        """How often it runs where nothing goes wrong, and nobody revokes it."""
        match self.kind:
            case "flaky":
                return 1 + min(self.failures, 3)
            case "asks" | "snoozes" | "rejects":
                return 2
            case _:
                return int(self.kind != UNKNOWN)


def answer(task_id: str, value: int) -> str:
    return f"{task_id} has {value}"


class Load:
    """Registers the tasks, which write into the history; `on_start` is told of each run that begins."""

    def __init__(self, world: World, history: History, on_start: Callable[[Context], None]) -> None:
        self._history = history
        self._on_start = on_start
        #: Runs under way, by node and kind.
        self._running: Counter[tuple[str, str]] = Counter()
        for kind, options in KINDS.items():
            world.task(self._task(kind), **options)

    def _task(self, kind: str) -> Callable[..., Awaitable[str]]:
        body: Body = getattr(self, f"_{kind}", self._work)

        async def task(ctx: Context, value: int, seconds: float, failures: int) -> str:
            who, tag = ctx.node.partition("@")[0], tag_of(ctx)
            self._on_start(ctx)
            self._running[who, kind] += 1
            if self._running[who, kind] > KINDS[kind].get("max_running", math.inf):
                self._history.violations.append(f"{kind} runs more often than it may")
            self._history.start(who, ctx.task_id, tag, ctx.retries)
            outcome = "cancelled"
            try:
                result = await body(ctx, value, seconds, failures)
                outcome = "SUCCESS"
            except Exception as error:
                outcome = type(error).__name__
                raise
            else:
                return result
            finally:
                self._running[who, kind] -= 1
                self._history.note(who, "end", ctx.task_id, outcome, tag)

        task.__name__ = kind
        return task

    async def _work(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        await asyncio.sleep(seconds)
        return answer(ctx.task_id, value)

    async def _fails(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        await asyncio.sleep(seconds)
        raise ValueError(value)

    async def _flaky(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        await asyncio.sleep(seconds)
        if ctx.retries < failures:
            raise OSError(value)
        return answer(ctx.task_id, value)

    async def _asks(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        if ctx.retries == 0:
            raise ctx.retry(countdown=seconds)
        return answer(ctx.task_id, value)

    async def _snoozes(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        if self._history.starts(ctx.task_id) == 1:
            raise Snooze(seconds)
        return answer(ctx.task_id, value)

    async def _rejects(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        await asyncio.sleep(seconds)
        if self._history.starts(ctx.task_id) == 1:
            raise Reject("not here", requeue=True)
        return answer(ctx.task_id, value)

    async def _soft(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        with contextlib.suppress(SoftTimeLimitExceeded):
            await asyncio.sleep(seconds)
        return answer(ctx.task_id, value)

    async def _overdue(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        await asyncio.sleep(1000)
        raise AssertionError("nobody has stopped it")

    async def _swallows(self, ctx: Context, value: int, seconds: float, failures: int) -> str:
        end = asyncio.get_running_loop().time() + 10 + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        return answer(ctx.task_id, value)
