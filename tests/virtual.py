"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing is left to do.

Days pass in milliseconds, and nothing outside has a say: sockets, subprocesses and threads are refused (time would jump
past every time-out while a real reply is on its way). So a test takes the same course each time; with dice, what is
ready at the same moment runs in an order of theirs. It is for the memory drivers and for fakes; what talks to a server,
a file or a thread is tested on real time.

    @virtual
    async def test_a_day() -> None:
        await asyncio.sleep(86400)

What belongs together as one process (a worker, say) can be frozen, as by SIGSTOP: see `process` and
`VirtualLoop.freeze`.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from asyncq.driver import Environment

P = ParamSpec("P")
T = TypeVar("T")

#: Time goes in steps of so many seconds. A power of two, so that a date plus such steps is exact in a double: a timer
#: never goes off early by a rounding error, and one that is set again and again gets somewhere.
TICK = 2.0**-20

#: The wall clock's start: 2030-01-01T00:00:00Z.
START = 1_893_456_000.0

_process: ContextVar[str | None] = ContextVar("process", default=None)

#: All that reaches out of the loop. `getaddrinfo` would be a thread, too.
_REFUSED = (
    "run_in_executor",
    "getaddrinfo",
    "getnameinfo",
    "subprocess_exec",
    "subprocess_shell",
    "add_signal_handler",
    "add_reader",
    "add_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
    "sendfile",
    "start_tls",
    "create_connection",
    "create_server",
    "create_datagram_endpoint",
    "create_unix_connection",
    "create_unix_server",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
)


class DeadlockError(Exception):
    """Nothing is ready, and no timer will ever make it so. The text says who waits where."""


@contextmanager
def process(name: str) -> Generator[None]:
    """What is started in this block, and whatever that starts, can be frozen together under this name."""
    token = _process.set(name)
    try:
        yield
    finally:
        _process.reset(token)


class NumberedTask(asyncio.Task[T]):
    """A task whose place in a set is the same in each run: asyncio and anyio cancel sets of tasks, in their order.

    By address, which is the default, that order differs from run to run.
    """

    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: VirtualLoop, **options: Any) -> None:
        self._number = loop.next_number()  # before the base class puts it into a set
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop but for the turn: timers, tasks and contexts are the standard library's."""

    # The parts of the base class that the turn is made of.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, dice: random.Random | None = None) -> None:
        """With `dice`, what is ready in a turn runs in an order that they throw, and not first come, first served."""
        super().__init__()
        self._dice = dice
        self.next_number = itertools.count(1).__next__
        self.set_task_factory(_numbered_task)
        self._now = 0.0
        #: Callbacks run so far.
        self.steps = 0
        #: Called after each step; what it raises ends the run.
        self.watch: Callable[[], object] | None = None
        self._hooks: dict[int, Callable[[], object]] = {}
        #: By process: what would have run since it was frozen.
        self._frozen: dict[str, list[asyncio.Handle]] = {}

    def time(self) -> float:
        return self._now

    def after_steps(self, count: int, callback: Callable[[], object]) -> None:
        """Call back between two callbacks of the loop: when the one that runs now has ended, and `count` more."""
        self._hooks[self.steps + 1 + count] = callback

    def freeze(self, name: str) -> None:
        """From now on nothing of that process runs, while time goes on for the others."""
        self._frozen.setdefault(name, [])

    def thaw(self, name: str) -> None:
        """It goes on: first with all that it missed, in order."""
        self._ready.extend(self._frozen.pop(name))

    def let_go(self) -> None:
        """A run has failed: nobody watches any more, and what is left may end."""
        self.watch = None
        self._hooks.clear()
        for name in list(self._frozen):
            self.thaw(name)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if math.isfinite(when):
            when = math.ceil(when / TICK) * TICK
        return super().call_at(when, callback, *args, context=context)

    # -- one turn of the loop

    def _run_once(self) -> None:
        if not (self._ready or self._stopping):
            self._advance()
        while self._scheduled and self._scheduled[0].when() <= self._now:
            self._ready.append(heapq.heappop(self._scheduled))
        if self._dice is not None and len(self._ready) > 1:
            self._dice.shuffle(self._ready)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.cancelled() or self._withholds(handle):
                continue
            handle._run()
            self.steps += 1
            if hook := self._hooks.pop(self.steps, None):
                hook()
            if self.watch is not None:
                self.watch()

    def _advance(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if not self._scheduled or not math.isfinite(self._scheduled[0].when()):
            raise DeadlockError("\n".join(["nothing is ready, and there is no timer:", *map(_place, self._tasks())]))
        self._now = max(self._now, self._scheduled[0].when())

    def _withholds(self, handle: asyncio.Handle) -> bool:
        if not self._frozen:
            return False
        context = cast("Context", handle._context)  # type: ignore[attr-defined] - public as get_context() since 3.12
        missed = self._frozen.get(context.get(_process) or "")
        if missed is None:
            return False
        missed.append(handle)
        return True

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name)

    # -- what the base class leaves open

    def _write_to_self(self) -> None:
        """No selector sleeps that had to be woken: what `call_soon_threadsafe` has put down is seen in this turn."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""


def _numbered_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    return NumberedTask(coro, loop=cast("VirtualLoop", loop), **options)


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(f"{name}: nothing outside can keep up with virtual time; test this on real time")

    return refuse


for _name in _REFUSED:
    setattr(VirtualLoop, _name, _refusal(_name))


def _place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the innermost coroutine that has a line."""
    awaited: Any = task.get_coro()  # Any: coroutines, generators and futures, known by their attributes
    frame = None
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None) or frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    where = "?" if frame is None else f"{frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"  {task.get_name()} in {where}"


class VirtualClock:
    """The loop's time as an `Environment` wants it: `monotonic` is the loop's, the wall clock can be made to jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._wall_ahead = START

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time() + self._wall_ahead

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock: forward, or (below 0) back."""
        self._wall_ahead += seconds


def counting_ids() -> Callable[[], str]:
    """Ids that look like UUIDs and count."""
    numbers = itertools.count(1)
    return lambda: f"00000000-0000-4000-8000-{next(numbers):012x}"


def virtual_loop() -> VirtualLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "this wants virtual time: decorate the test with @virtual"
    return loop


def virtual_environment(seed: int = 0) -> Environment:
    """The running loop's clock, dice of this seed, ids that count."""
    return Environment(clock=VirtualClock(virtual_loop()), random=random.Random(seed), new_id=counting_ids())


def run(main: Coroutine[Any, Any, T], *, dice: random.Random | None = None) -> T:
    """Run to the end on virtual time. Fails for tasks left behind and for errors that nobody looked at.

    With `dice`, in an order that they throw (`VirtualLoop`).
    """
    unseen: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=functools.partial(VirtualLoop, dice)) as runner:
        loop = cast("VirtualLoop", runner.get_loop())
        loop.set_exception_handler(lambda _, context: unseen.append(context))
        try:
            result = runner.run(main)
        except BaseException:
            loop.let_go()
            raise
        left = [_place(task) for task in loop._tasks()]
    assert not left, "\n".join(["tasks were left behind:", *left])
    assert not unseen, unseen
    return result


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a virtual loop of its own. Its fixtures must be ordinary ones."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return run_test
