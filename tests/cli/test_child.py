"""One process of a worker, as its supervisor starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from asyncq import AsyncQ
from asyncq._brief import decode_brief
from asyncq._flight import Phase, create, read_brief, read_flights, read_header
from asyncq.cli._arguments import ChildArguments, WorkerArguments
from asyncq.cli._kinds import LogFormat, LoopKind
from waiting import PATIENCE

#: What a machine that is busy with other tests may add to what is measured: what must not be waited for takes an hour.
BUSY = 15.0

SHOP = """
import asyncio
import subprocess
import sys
import time

from asyncq import AsyncQ

queue = AsyncQ("shop", broker="sqlite:///{folder}/shop.sqlite", stall_timeout=2)


@queue.task
async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@queue.task
def thread():
    time.sleep(3600)


@queue.task
async def hang():
    await asyncio.sleep(3600)


@queue.task
async def block():
    time.sleep(3600)


@queue.task
async def elsewhere():
    await asyncio.to_thread(time.sleep, 3600)


@queue.task
def program(name):
    return subprocess.run([sys.executable, name], close_fds=False, capture_output=True, check=True).stdout.decode()


@queue.task
async def modules():
    return [name for name in ("typer", "click", "rich") if name in sys.modules]
"""


DESCRIPTORS = """
import contextlib
import os

for number in range(3, 64):
    with contextlib.suppress(OSError):
        os.fstat(number)
        print(number)
"""


STICKY = """
import asyncio

from asyncq import AsyncQ

queue = AsyncQ("sticky", broker="memory://")


@queue.lifespan
async def pool():
    yield
    await asyncio.sleep(3600)
"""


STUCK = """
import threading
import time

from asyncq import AsyncQ

queue = AsyncQ("stuck", broker="memory://")


@queue.lifespan
async def pool():
    threading.Thread(target=time.sleep, args=[3600]).start()
    yield


@queue.lifespan
async def away():
    raise OSError("the database is away")
    yield
"""


class Child:
    """A worker's process, and its supervisor's end of it."""

    def __init__(self, folder: Path, *, app: str = "shop:queue", environment: dict[str, str], **arguments: Any) -> None:
        self.folder = folder
        self.table = create()
        heard, self._mouth = os.pipe()
        worker = WorkerArguments(app=app, name="shop-1", **arguments)
        document = ChildArguments(worker=worker, flight_fd=self.table, control_fd=heard).to_document()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncq.cli._child", json.dumps(document)],
            cwd=folder,
            env=os.environ | environment,
            pass_fds=[self.table, heard],
            process_group=0,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.table)
        if self._mouth is not None:
            os.close(self._mouth)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def phase_is(self, phase: Phase) -> bool:
        header = read_header(self.table)
        return header is not None and header.phase == phase

    def ready(self) -> Self:
        self.until(lambda: self.phase_is(Phase.READY))
        return self

    def say(self, words: bytes) -> None:
        assert self._mouth is not None
        os.write(self._mouth, words)

    def die(self) -> None:
        assert self._mouth is not None
        os.close(self._mouth)
        self._mouth: int | None = None

    def ended(self) -> tuple[int, str, float]:
        """Its exit code, what it said, and how many seconds it took from now."""
        began = time.monotonic()
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said, time.monotonic() - began


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP.format(folder=tmp_path))
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Generator[Callable[..., Child]]:
    children: list[Child] = []

    def start(*, environment: dict[str, str] | None = None, **arguments: Any) -> Child:
        children.append(Child(folder, environment=environment or {}, **arguments))
        return children[-1]

    yield start
    for child in children:
        with child:
            pass


def client(folder: Path) -> AsyncQ:
    return AsyncQ("shop", broker=f"sqlite:///{folder}/shop.sqlite")


def send(folder: Path, *names: str) -> None:
    async def send_all() -> None:
        async with client(folder) as queue:
            for name in names:
                await queue.send_task(f"shop.{name}")

    asyncio.run(send_all())


def ready_and_in_flight(folder: Path) -> tuple[int, int | None]:
    async def look() -> tuple[int, int | None]:
        broker = client(folder).make_broker()
        await broker.open()
        depth = await broker.depth("celery")
        await broker.close()
        return depth.ready, depth.in_flight

    return asyncio.run(look())


def test_its_arguments_cross_as_json() -> None:
    worker = WorkerArguments(
        app="shop:queue",
        queues=("a", "b"),
        concurrency=7,
        burst=True,
        max_memory_per_child=1000,
        log_format=LogFormat.JSON,
        loop=LoopKind.ASYNCIO,
    )
    child = ChildArguments(worker=worker, flight_fd=5, control_fd=6, announce=False)
    document = json.loads(json.dumps(child.to_document()))
    assert ChildArguments.from_document(document) == child
    assert WorkerArguments.from_document(document) == worker


def test_it_leaves_a_brief(start: Callable[..., Child]) -> None:
    child = start().ready()
    brief = decode_brief(read_brief(child.table))
    assert brief is not None
    assert (brief.app, brief.broker.url) == ("shop", f"sqlite:///{child.folder}/shop.sqlite")


def test_no_command_line_is_imported(start: Callable[..., Child], folder: Path) -> None:
    async def ask() -> list[str]:
        async with client(folder) as queue:
            return await (await queue.send_task("shop.modules")).get(timeout=PATIENCE)

    start().ready()
    assert asyncio.run(ask()) == []


def test_programs_that_a_task_starts_inherit_nothing_of_it(start: Callable[..., Child], folder: Path) -> None:
    """The table carries passwords."""

    (folder / "descriptors.py").write_text(DESCRIPTORS)

    async def ask() -> str:
        async with client(folder) as queue:
            return await (await queue.send_task("shop.program", args=["descriptors.py"])).get(timeout=PATIENCE)

    start().ready()
    assert asyncio.run(ask()) == ""


@pytest.mark.parametrize(("words", "limit"), [(b"T", 3.0), (b"TN", 1.0), (b"N", 1.0)])
def test_it_ends_though_tasks_do_not_and_loses_none(
    start: Callable[..., Child], folder: Path, words: bytes, limit: float
) -> None:
    send(folder, "hang", "swallow", "thread", "swallow", "thread")
    child = start(shutdown_timeout=1.0).ready()
    child.until(lambda: len(read_flights(child.table)) == 5)
    child.say(words)
    code, said, seconds = child.ended()
    assert code == 0, said
    assert "Ended" in said
    assert seconds < limit + BUSY
    assert read_flights(child.table) == []
    assert ready_and_in_flight(folder) == (5, 0)


@pytest.mark.parametrize(
    ("number", "environment"), [(signal.SIGQUIT, {}), (signal.SIGTERM, {"REMAP_SIGTERM": "SIGQUIT"})]
)
def test_some_signals_do_not_wait(
    start: Callable[..., Child], folder: Path, number: signal.Signals, environment: dict[str, str]
) -> None:
    send(folder, "hang")
    child = start(shutdown_timeout=600, environment=environment).ready()
    child.until(lambda: len(read_flights(child.table)) == 1)
    child.process.send_signal(number)
    code, said, seconds = child.ended()
    assert code == 0, said
    assert seconds < 1.0 + BUSY
    assert ready_and_in_flight(folder) == (1, 0)


def test_it_shows_where_it_stands_when_it_is_asked(start: Callable[..., Child], folder: Path) -> None:
    send(folder, "block")
    child = start().ready()
    child.until(lambda: len(read_flights(child.table)) == 1)
    child.process.send_signal(signal.SIGUSR1)
    assert child.process.stderr is not None
    said = ""
    while "in block" not in said:
        line = child.process.stderr.readline()
        assert line, said
        said += line
    assert child.process.poll() is None


def test_whose_code_blocks_it_can_be_read_from_outside(start: Callable[..., Child], folder: Path) -> None:
    send(folder, "hang", "block")
    child = start().ready()
    child.until(lambda: len(read_flights(child.table)) == 2)
    child.until(lambda: (header := read_header(child.table)) is not None and header.on_loop != 0)
    header = read_header(child.table)
    assert header is not None
    assert [flight.task for flight in read_flights(child.table) if flight.slot == header.on_loop] == ["shop.block"]


def test_it_drains_and_ends_when_its_supervisor_dies(start: Callable[..., Child], folder: Path) -> None:
    send(folder, "hang")
    child = start(shutdown_timeout=0.5).ready()
    child.until(lambda: len(read_flights(child.table)) == 1)
    child.die()
    code, said, seconds = child.ended()
    assert code == 0, said
    assert "supervisor is gone" in said
    assert seconds < 2.5 + BUSY
    assert ready_and_in_flight(folder) == (1, 0)


def test_a_thread_of_the_apps_own_does_not_hold_up_the_end(start: Callable[..., Child], folder: Path) -> None:
    """asyncio waits for the threads of its executor, and Python for all: neither can be told not to."""
    send(folder, "elsewhere")
    child = start(shutdown_timeout=1.0).ready()
    child.until(lambda: len(read_flights(child.table)) == 1)
    child.say(b"T")
    code, said, seconds = child.ended()
    assert code == 0, said
    assert seconds < 3.0 + BUSY
    assert ready_and_in_flight(folder) == (1, 0)


def test_a_thread_does_not_hold_up_the_death_of_a_worker_that_could_not_start(
    start: Callable[..., Child], folder: Path
) -> None:
    (folder / "stuck.py").write_text(STUCK)
    code, said, seconds = start(app="stuck:queue").ended()
    assert code == 1
    assert said.count("OSError: the database is away") == 1
    assert seconds < 6.0 + BUSY


def test_an_orphan_does_not_stay_for_what_the_app_closes(start: Callable[..., Child], folder: Path) -> None:
    (folder / "sticky.py").write_text(STICKY)
    child = start(app="sticky:queue", shutdown_timeout=0.2).ready()
    child.die()
    code, said, seconds = child.ended()
    assert code == 1, said
    assert seconds < 3.0 + BUSY


def test_it_ends_even_with_a_blocked_loop_when_its_supervisor_dies(start: Callable[..., Child], folder: Path) -> None:
    send(folder, "block")
    child = start().ready()
    child.until(lambda: len(read_flights(child.table)) == 1)
    child.die()
    code, said, seconds = child.ended()
    assert code == 1
    assert "in block" in said
    assert seconds < 2.0 + BUSY


@pytest.mark.parametrize(
    ("app", "environment", "expected"),
    [
        ("nothing:queue", {}, 2),
        ("shop:queue", {"ASYNCQ_CONCURRENCY": "0"}, 2),
        ("far:queue", {"ASYNCQ_START_TIMEOUT": "0.1"}, 3),
        ("broken:queue", {}, 2),
    ],
)
def test_its_exit_code_says_why_it_could_not_start(
    start: Callable[..., Child], folder: Path, app: str, environment: dict[str, str], expected: int
) -> None:
    (folder / "far.py").write_text("from asyncq import AsyncQ\nqueue = AsyncQ('far', broker='redis://127.0.0.1:1')\n")
    (folder / "broken.py").write_text("1 / 0\n")
    code, said, _ = start(app=app, environment=environment).ended()
    assert code == expected, said
