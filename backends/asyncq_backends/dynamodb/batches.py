"""DynamoDB's calls for many items, which leave some undone when too much is asked at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from asyncq.errors import BackendConnectionError
from asyncq_brokers._clients.aws import AwsLink

from .items import Item

__all__ = ["read_items", "write_items"]

#: Items of one call.
_READ, _WRITE = 100, 25

#: Seconds: pauses before what was left undone is asked again; they grow twofold, with full jitter.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


async def read_items(
    link: AwsLink, random: Random, table: str, keys: Sequence[Item], *, consistent: bool
) -> list[Item]:
    """The items that are there, in no order. No key may be asked twice in one call."""
    found: list[Item] = []
    for start in range(0, len(keys), _READ):
        left: list[Item] = list(keys[start : start + _READ])
        pauses = _Pauses(link, random)
        while left:
            request = {table: {"Keys": left, "ConsistentRead": consistent}}
            answer = await link.ask("batch_get_item", harmless=True, RequestItems=request)
            found += answer.get("Responses", {}).get(table, [])
            left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if left:
                await pauses.wait(len(left))
    return found


async def write_items(link: AwsLink, random: Random, table: str, requests: Sequence[dict[str, Any]]) -> None:
    """Carry out PutRequests and DeleteRequests. No key may be written twice in one call."""
    for start in range(0, len(requests), _WRITE):
        left: list[dict[str, Any]] = list(requests[start : start + _WRITE])
        pauses = _Pauses(link, random)
        while left:
            answer = await link.ask("batch_write_item", harmless=True, RequestItems={table: left})
            left = answer.get("UnprocessedItems", {}).get(table, [])
            if left:
                await pauses.wait(len(left))


class _Pauses:
    """Waits longer each time, up to the deadline of one call."""

    def __init__(self, link: AwsLink, random: Random) -> None:
        self._random = random
        self._address = link.account.address
        self._pause = _FIRST_PAUSE
        self._deadline = asyncio.get_running_loop().time() + link.timeout

    async def wait(self, left: int) -> None:
        if asyncio.get_running_loop().time() + self._pause > self._deadline:
            raise BackendConnectionError(f"{self._address} leaves {left} items undone: too much is asked of the table")
        await asyncio.sleep(self._random.uniform(0, self._pause))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
