"""A worker whose growth is looked at: `python -m durability.leak_program CONFIG`."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from typing import Any

from asyncq import AsyncQ, Context
from chaos.gauges import descriptors, resident


def gauges() -> dict[str, int]:
    """What this process holds, once all garbage is gone."""
    gc.collect()
    return {
        "resident": resident(),
        "objects": len(gc.get_objects()),
        "descriptors": descriptors(),
        "tasks": len(asyncio.all_tasks()),
    }


def declare_tasks(app: AsyncQ) -> None:
    @app.task(name="leaks.work", throws=(ValueError,))
    async def work(ctx: Context, number: int) -> int:
        """A third fails, a tenth is tried again."""
        if number % 10 == 1 and ctx.retries == 0:
            raise ctx.retry(countdown=0.01)
        if number % 3 == 0:
            raise ValueError(number)
        return number

    @app.task(name="leaks.gauges")
    async def _() -> dict[str, int]:
        return gauges()


async def main(config: dict[str, Any]) -> None:
    async with AsyncQ("durability", broker=config["url"], backend=config["url"]) as app:
        declare_tasks(app)
        async with app.worker() as worker:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            print("ready", flush=True)
            await worker.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
