"""What all suites are written with: bounded waiting, idle measurement, cancellation at every await."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, cast

from asyncq._clock import system_environment

#: Seconds after which a wait counts as a hang. No test gets better by its being short.
BOUND = 15.0

#: Seconds that a call may take beyond its own deadline: a busy machine is late, a hang is later.
LATE = 5.0

environment = system_environment()
wall = environment.clock.wall


async def within(awaitable: Awaitable[Any], seconds: float = BOUND) -> Any:  # Any: what is awaited
    """Await it; a hang becomes a failure that says where."""
    async with asyncio.timeout(seconds):
        return await awaitable


@asynccontextmanager
async def running(coroutine: Coroutine[Any, Any, Any]) -> AsyncGenerator[asyncio.Task[Any]]:
    """The coroutine in a task beside the body. Cancelled and awaited at the end; its own error is raised there."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def cpu_share(seconds: float) -> float:
    """Let the loop run for so long and return the share of it that this process computed."""
    before = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - before) / seconds


# -- cancelling at every await -------------------------------------------------------------------------------

#: When the cancellation comes: while the call waits, or in the very turn in which its answer came.
Moment = Literal["waiting", "answered"]
MOMENTS: tuple[Moment, ...] = ("waiting", "answered")


class _CancelAt:
    """Drives a coroutine inside the current task and cancels that task at its n-th suspension, as asyncio would."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], position: int, moment: Moment) -> None:
        self._coroutine = coroutine
        self._position = position
        self._moment = moment
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        task = asyncio.current_task()
        assert task is not None
        resume: Callable[[], Any] = partial(next, steps)
        for position in itertools.count():
            try:
                waited_for = resume()
            except StopIteration as stop:
                return stop.value
            if position == self._position:
                self.reached = True
                if self._moment == "answered" and isinstance(waited_for, asyncio.Future):
                    answer = cast("asyncio.Future[object]", waited_for)
                    # Runs before the task's own wake-up, which asyncio registers after this.
                    answer.add_done_callback(lambda _: task.cancel())
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                resume = partial(steps.throw, error)
            else:
                resume = partial(next, steps)
        return None


async def cancel_at(call: Callable[[], Coroutine[Any, Any, Any]], position: int, moment: Moment) -> bool:
    """Run the call, cancelled at its await number `position`; False when it ended before it got there."""

    async def drive() -> None:
        await stepper

    stepper = _CancelAt(call(), position, moment)
    task = asyncio.create_task(drive())
    await within(asyncio.wait([task]))
    if not stepper.reached:
        task.result()  # an error without a cancellation is the call's own
        return False
    if not task.cancelled():
        task.result()
        raise AssertionError(f"swallowed the cancellation at its await number {position} ({moment})")
    return True


async def cancel_everywhere(
    call: Callable[[], Coroutine[Any, Any, Any]],
    check: Callable[[], Awaitable[None]],
    *,
    at_most: int = 40,
) -> None:
    """Cancel fresh runs of the call at each of its awaits, at both moments, and check the state after each."""
    for moment in MOMENTS:
        for position in range(at_most):
            reached = await cancel_at(call, position, moment)
            await check()
            if not reached:
                break
