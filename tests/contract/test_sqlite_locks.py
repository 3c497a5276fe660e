"""One process with several connections to the file keeps its locks when another process leaves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from asyncq import AsyncQ

LEAVE = """
import asyncio
import sys

from asyncq import AsyncQ


async def main() -> None:
    async with AsyncQ("locks", broker=sys.argv[1]) as queue:
        await queue.send_task("any.task")


asyncio.run(main())
"""


async def test_a_second_connection_leaves_the_first_ones_locks_alone(tmp_path: Path) -> None:
    """Else the process that leaves deletes the log, and whatever is written to the file afterwards is seen by few."""
    url = f"sqlite:///{tmp_path}/locks.sqlite"
    queue = AsyncQ("locks", broker=url)
    broker, backend = queue.make_broker(), queue.make_backend()
    assert backend is not None
    await broker.open()
    await backend.open()
    try:
        for expected in (1, 2):
            program = await asyncio.create_subprocess_exec(sys.executable, "-c", LEAVE, url)
            assert await program.wait() == 0
            assert (await broker.depth("celery")).ready == expected
            assert (tmp_path / "locks.sqlite-wal").exists()
    finally:
        await backend.close()
        await broker.close()
