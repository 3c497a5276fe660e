"""Dead letters: another life, or the end."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from asyncq._operating._places import PAGE, send_again, sweep
from asyncq.driver import Broker, Publication, Stored
from asyncq.protocol import read_dead_letter, replay_of


async def replay(broker: Broker, queue: str, keys: Collection[str]) -> int:
    """Send dead letters to their queue again; return how many.

    They go as `asyncq.protocol.replay_of` makes them. `Broker.move` would not do: it leaves the notice on them, and the
    count of what they have been through, by which they would die again at the first stumble; and what was no envelope
    would come back wrapped in one.

    Each is published before its letter is dropped: a crash in between leaves it twice, and loses none. Raises
    BrokerError; PublishError when some were refused, whose letters stay.
    """
    wanted = frozenset(keys)

    async def send(page: Sequence[Stored]) -> int:
        batch = [
            (stored, Publication(message=replay_of(read_dead_letter(stored.content)), queue=queue))
            for stored in page
            if stored.key in wanted
        ]
        return await send_again(broker, queue, "dead", batch) if batch else 0

    return await sweep(broker, queue, "dead", send)


async def drop_letters(broker: Broker, queue: str, keys: Sequence[str]) -> int:
    """Delete dead letters for good; return how many were there."""
    dropped = 0
    for start in range(0, len(keys), PAGE):
        dropped += await broker.drop(queue, "dead", keys[start : start + PAGE])
    return dropped
