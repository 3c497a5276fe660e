"""Virtual time itself."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from virtual import (
    START,
    TICK,
    DeadlockError,
    VirtualClock,
    process,
    run,
    virtual,
    virtual_environment,
    virtual_loop,
)


def test_a_year_of_days_passes_at_once() -> None:
    async def main() -> float:
        for _ in range(400):
            await asyncio.sleep(86400)
        return asyncio.get_running_loop().time()

    before = time.monotonic()
    assert run(main()) == 400 * 86400
    assert time.monotonic() - before < 5


@virtual
async def test_timers_go_off_in_their_order_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    order: list[float] = []

    async def sleeper(delay: float) -> None:
        due = loop.time() + delay
        await asyncio.sleep(delay)
        late.append(loop.time() - due)
        order.append(delay)

    await asyncio.sleep(40_000_000.1)  # far from 0, where doubles are coarse
    async with asyncio.TaskGroup() as group:
        for delay in [0.3, 1e-9, 7.7, 0.1, 5000.0, 0.2]:
            group.create_task(sleeper(delay))
    assert order == sorted(order)
    assert all(0 <= seconds <= TICK for seconds in late)


@virtual
async def test_a_wait_that_is_set_again_until_a_date_gets_there() -> None:
    environment = virtual_environment()
    due = environment.clock.wall() + 0.1
    turns = 0
    while (left := due - environment.clock.wall()) > 0:
        turns += 1
        await asyncio.sleep(left)
    assert turns == 1


@virtual
async def test_time_outs_and_scopes_work() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()
    with anyio.move_on_after(3600) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert virtual_loop().time() == 7200


@virtual
async def test_the_wall_clock_jumps_alone() -> None:
    clock = VirtualClock(virtual_loop())
    assert (clock.monotonic(), clock.wall()) == (0, START)
    await asyncio.sleep(10)
    clock.jump(-3600)
    assert (clock.monotonic(), clock.wall()) == (10, START - 3590)


@virtual
async def test_an_environment_repeats_itself() -> None:
    one, other = virtual_environment(5), virtual_environment(5)
    assert [one.random.random() for _ in range(3)] == [other.random.random() for _ in range(3)]
    assert [one.new_id() for _ in range(3)] == [other.new_id() for _ in range(3)]
    assert one.new_id() != one.new_id()


def test_a_deadlock_says_who_waits_where() -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(hangs(), name="the hanging one")

    with pytest.raises(DeadlockError, match=r"the hanging one in Event\.wait"):
        run(main())


def test_tasks_left_behind_are_told() -> None:
    async def lingers() -> None:
        await asyncio.sleep(3600)

    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(lingers(), name="the lingering one"))

    with pytest.raises(AssertionError, match="the lingering one"):
        run(main())


def test_an_error_in_a_callback_is_told() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(main())


@virtual
async def test_it_is_woken_from_another_thread() -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=[woken.set])
    thread.start()
    thread.join()
    await woken.wait()


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _listen() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def _receive() -> None:
    with socket.socket() as sock:
        await asyncio.get_running_loop().sock_recv(sock, 1)


async def _spawn() -> None:
    await asyncio.create_subprocess_exec("true")


@pytest.mark.parametrize(
    "reaches_out",
    [_connect, _listen, _receive, _spawn, lambda: asyncio.to_thread(int)],
)
def test_what_cannot_keep_up_is_refused(reaches_out: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await reaches_out()

    with pytest.raises(RuntimeError, match="nothing outside can keep up with virtual time"):
        run(main())


@virtual
async def test_a_frozen_process_misses_its_timers_and_makes_up_for_them() -> None:
    loop = virtual_loop()
    seen: list[tuple[str, float]] = []

    async def ticks(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(10)
            seen.append((name, loop.time()))

    with process("frozen"):
        frozen = asyncio.create_task(ticks("frozen"))
    free = asyncio.create_task(ticks("free"))
    await asyncio.sleep(15)
    loop.freeze("frozen")
    await asyncio.sleep(85)
    loop.thaw("frozen")
    await asyncio.gather(frozen, free)
    assert [at for name, at in seen if name == "free"] == [10, 20, 30]
    assert [at for name, at in seen if name == "frozen"] == [10, 100, 110]


@virtual
async def test_a_hook_comes_between_two_steps() -> None:
    loop = virtual_loop()
    seen: list[str] = []
    for name in "abc":
        loop.call_soon(seen.append, name)
    loop.after_steps(0, lambda: seen.append("first hook"))
    loop.after_steps(2, lambda: seen.append("second hook"))
    await asyncio.sleep(0)
    assert seen == ["first hook", "a", "b", "second hook", "c"]
