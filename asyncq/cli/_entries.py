"""Messages for a list: the first of each queue, and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncq.cli._drivers import opened, reader_of
from asyncq.cli._output import say

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Entry
    from asyncq.driver import Place


async def first_entries(queue: AsyncQ, names: Sequence[str], place: Place, limit: int) -> tuple[list[Entry], int]:
    """The first messages of a place of these queues, what is due sooner before; and how many there are in all."""
    from asyncq._operating import count, first

    reader = reader_of(queue)
    found: list[Entry] = []
    total = 0
    async with opened(queue.make_broker()) as broker:
        for name in names:
            entries = await first(broker, name, place, reader, limit=limit)
            found += entries
            total += max(await count(broker, name, place) or 0, len(entries))
    found.sort(key=lambda entry: entry.stored.until or 0.0)
    return found[:limit], total


def tell_the_rest(shown: int, total: int, nothing: str) -> None:
    """Say what a list doesn't show: that there is more, or nothing at all."""
    if not total:
        say(nothing)
    elif shown < total:
        say(f"{shown} of {total} are shown; --limit shows more")
