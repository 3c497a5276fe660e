"""An asyncq worker in a process of its own: `python -m durability.worker_program CONFIG`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

from asyncq import AsyncQ, Context
from chaos.ledger import Ledger


def declare_tasks(app: AsyncQ, ledger: Ledger) -> None:
    """The tasks of these tests: what they do stands in the ledger."""

    @app.task(name="durability.work", acks_late=True)
    async def work(ctx: Context, number: int, pause: float) -> int:
        ledger.write("START", ctx.task_id)
        await asyncio.sleep(pause)
        ledger.write("END", ctx.task_id)
        return number

    @app.task(name="durability.stamp")
    async def stamp(ctx: Context) -> None:
        ledger.write("RAN", ctx.task_id)

    @app.task(name="durability.clock")
    async def clock() -> float:
        return time.time()


async def main(config: dict[str, Any]) -> None:
    async with AsyncQ("durability", broker=config["url"], backend=config["url"]) as app:
        declare_tasks(app, Ledger(config["ledger"]))
        async with app.worker(**config["options"]) as worker:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            print("ready", flush=True)
            await worker.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
