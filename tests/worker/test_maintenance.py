"""When the driver's housekeeping is called."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from asyncq.driver import Consumer
from asyncq.worker._maintenance import Maintenance
from virtual import virtual, virtual_environment, virtual_loop


class Rounds:
    """A consumer that only keeps house. Each round takes a while, and knows of nothing that is due before a minute."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.began = asyncio.Event()

    async def maintain(self) -> float:
        self.began.set()
        await asyncio.sleep(0.25)
        self.ended.append(virtual_loop().time())
        return 60.0


@virtual
async def test_what_is_announced_during_a_round_is_not_forgotten_after_it() -> None:
    """The round may have looked before that message was parked."""
    environment, rounds = virtual_environment(), Rounds()
    maintenance = Maintenance(cast("Consumer", cast("Any", rounds)), environment.clock, environment.random)
    keeping = asyncio.create_task(maintenance.run())
    await rounds.began.wait()
    maintenance.due(environment.clock.wall() + 1)
    await asyncio.sleep(30)
    keeping.cancel()
    assert rounds.ended == [0.25, 1.25]
