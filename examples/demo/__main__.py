"""Real work on a real worker: `make demo`, or `python -m examples.demo`.

This process sends the tasks and waits for their results; `asyncq worker`, a process of its own, runs them. Between the
two stands a SQLite file in a temporary folder. Exits with 0 only if every task ended as it should.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from asyncq import AsyncResult
from examples.demo.pictures import SIZE, paint_gallery
from examples.demo.report import Board, Tally, live_board, summary
from examples.demo.site import Site, flaky_site, page_body
from examples.demo.tasks import Page, fetch_page, make_thumbnail, queue

PAGES = 400
PICTURES = 150
ORIGINALS = 6
EDGE = 200  # pixels
DEADLINE = 45.0  # seconds

T = TypeVar("T")


async def main() -> bool:
    console = Console()
    with tempfile.TemporaryDirectory(prefix="asyncq-demo-") as name:
        folder = Path(name)
        log = folder / "worker.log"
        os.environ["ASYNCQ_HOME"] = name  # ours and the worker's: where the SQLite file stands
        gallery = await asyncio.to_thread(paint_gallery, folder, PICTURES, ORIGINALS)
        async with flaky_site(random.Random(7)) as site, queue, worker_process(log) as worker:
            console.print(f"Process {worker.pid} is the worker, this one sends and waits; between them stands")
            console.print(queue.make_broker().address, highlight=False, soft_wrap=True)
            good = await unless_it_ends(worker, do_work(site, gallery, console))
        if worker.returncode != 0:
            console.print(f"[red]The worker ended with {worker.returncode}")
            good = False
        if not good:
            console.print(log.read_text()[-4000:], markup=False)
    return good


@asynccontextmanager
async def worker_process(log: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`asyncq worker` beside us, stopped as an operator would stop it, and never left behind."""
    command = [sys.executable, "-m", "asyncq", "worker", "examples.demo.tasks:queue", "--name", "demo"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout=15)
        except TimeoutError:
            process.kill()
            await process.wait()


async def unless_it_ends(worker: asyncio.subprocess.Process, work: Coroutine[None, None, bool]) -> bool:
    """The work's own answer; false at once if the worker ends before it."""
    doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(worker.wait())
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        return doing.done() and doing.result()
    finally:
        doing.cancel()
        ending.cancel()
        await asyncio.wait({doing, ending})


async def do_work(site: Site, gallery: list[Path], console: Console) -> bool:
    """Send everything, wait for everything; true if everything ended as it should."""
    pages, thumbnails = Tally("pages", PAGES), Tally("thumbnails", PICTURES)
    started = time.perf_counter()
    with live_board(console, (pages, thumbnails)) as board:
        async with asyncio.TaskGroup() as followers:
            for number in range(PAGES):
                page = await fetch_page.send(site.page_url(number))
                followers.create_task(follow(page, page_check(number, pages), pages, board))
            for picture in gallery:
                target = picture.with_stem(f"{picture.stem}-small")
                size = await make_thumbnail.send(str(picture), str(target), EDGE)
                followers.create_task(follow(size, thumbnail_check(target), thumbnails, board))
    console.print(summary((pages, thumbnails), time.perf_counter() - started))
    console.print(f"The site answered {site.served} requests and refused {site.failed}.")
    for failure in pages.failures + thumbnails.failures:
        console.print(failure, style="red")
    return pages.complete and thumbnails.complete


async def follow(result: AsyncResult[T], complaint_of: Callable[[T], str | None], tally: Tally, board: Board) -> None:
    """Wait for one result and judge it."""
    sent = time.perf_counter()
    try:
        complaint = complaint_of(await result.get(timeout=DEADLINE))
    except Exception as failure:  # noqa: BLE001 - whatever the task raised is counted and shown; the others go on
        complaint = f"{type(failure).__name__}: {failure}"
    if complaint is None:
        tally.latencies.append(time.perf_counter() - sent)
    else:
        tally.failures.append(f"{result.id}: {complaint}")
    board.update(tally)


def page_check(number: int, tally: Tally) -> Callable[[Page], str | None]:
    def check(page: Page) -> str | None:
        tally.retries += page["attempts"] - 1
        return None if page["size"] == len(page_body(number)) else f"page {number} arrived with {page['size']} bytes"

    return check


def thumbnail_check(target: Path) -> Callable[[list[int]], str | None]:
    def check(size: list[int]) -> str | None:
        right = size == [EDGE, EDGE * SIZE[1] // SIZE[0]] and target.stat().st_size > 0
        return None if right else f"{target.name} measures {size}"

    return check


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
