"""Calls of ten at a time, whose members succeed and fail each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from msgspec import Struct

from asyncq.driver import Environment
from asyncq.errors import BrokerConnectionError
from asyncq_brokers._clients.aws import AwsLink, Refusal, is_throttling

from .encoding import Entry

__all__ = ["BATCH", "MISSING", "Failure", "QueueMissing", "call_batch", "in_batches"]

#: SQS's codes for a queue that isn't there.
MISSING = frozenset({"NonExistentQueue", "QueueDoesNotExist"})

#: Members of a batch call.
BATCH = 10

#: Seconds: pauses before members are sent again that SQS could not take; they grow twofold, with full jitter.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Failure(Struct, frozen=True):
    """Why SQS refuses a member for good."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


class QueueMissing(BrokerConnectionError):
    """The queue was deleted: nothing was done, and there may be another one of that name by now."""


async def call_batch(
    link: AwsLink, environment: Environment, method: str, url: str, entries: Sequence[Entry], *, harmless: bool
) -> dict[int, Failure]:
    """Call for up to ten members, and again for those that failed by no fault of theirs.

    Returns the members that are refused for good, by position. Raises BrokerConnectionError for as long as some have
    not gone through; the others have then. Raises QueueMissing.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + link.timeout
    failures: dict[int, Failure] = {}
    waiting: list[int] = list(range(len(entries)))
    pause = _FIRST_PAUSE
    while True:
        members = [{"Id": str(position), **entries[position]} for position in waiting]
        try:
            answer = await link.call(method, harmless=harmless, QueueUrl=url, Entries=members)
        except Refusal as refusal:
            if refusal.code in MISSING:
                raise QueueMissing(f"the queue {url} was deleted") from refusal
            raise link.translated(refusal) from refusal
        waiting = list[int]()
        for failed in answer.get("Failed", ()):
            position = int(failed["Id"])
            code = str(failed.get("Code", "")).rpartition(".")[2]
            if failed.get("SenderFault", True) and not is_throttling(code):
                failures[position] = Failure(code, str(failed.get("Message", "")))
            else:
                waiting.append(position)
        if not waiting:
            return failures
        if loop.time() + pause > deadline:
            raise BrokerConnectionError(f"{link.account.address} fails at {len(waiting)} members of {method}")
        await asyncio.sleep(environment.random.uniform(0, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)


def in_batches(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ten at a time."""
    for start in range(0, len(positions), BATCH):
        yield positions[start : start + BATCH]
