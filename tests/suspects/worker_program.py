"""A worker of the shop in a process of its own: `python -m suspects.worker_program CONFIG`.

`table` and `control` are descriptors, as a supervisor hands them over; without them it is an embedded worker. `memory`
is the most bytes that it may take.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from typing import Any

from asyncq._brief import brief_of, encode_brief
from asyncq._clock import system_environment
from asyncq.worker import Supervision
from suspects.shop import queue


async def main(config: dict[str, Any]) -> None:
    if "memory" in config:
        resource.setrlimit(resource.RLIMIT_AS, (config["memory"], config["memory"]))
    async with queue:
        worker = queue.worker(**config["options"])
        if "table" in config:
            brief = brief_of(queue.name, queue.settings, now=system_environment().clock.wall())
            worker.put_under(Supervision(table=config["table"], control=config["control"], brief=encode_brief(brief)))
        async with worker:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
            print("ready", flush=True)
            await worker.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
