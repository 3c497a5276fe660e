"""An asyncq worker to be killed: `python -m interop.asyncq_program CONFIG`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from asyncq import AsyncQ, Context
from chaos.ledger import Ledger
from waiting import Gate


async def main(config: dict[str, Any]) -> None:
    async with AsyncQ("interop", broker=config["url"], backend=config["url"], **config["settings"]) as app:

        @app.task(name="interop.hold")
        async def hold(ctx: Context, gate: str) -> str:
            Ledger(config["ledger"]).write("HELD", ctx.task_id, "asyncq")
            await Gate(gate).passed()
            return "asyncq"

        async with app.worker() as worker:
            print("ready", flush=True)
            await worker.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
