"""Who works, and a letter box for each worker: facts, for brokers that can't carry a command to all of them.

Every 25 seconds a worker writes one fact and reads two counters, its box's and that of revocations: five requests a
minute.
All of it has a time to live: who dies is gone from the list 80 seconds later, and what nobody fetches is forgotten.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from asyncq.driver import Coordination, Fact

__all__ = [
    "INTERVAL",
    "MOST_SHOWN",
    "Command",
    "Presence",
    "Running",
    "announce",
    "fetch",
    "leave",
    "letters_of",
    "post",
    "workers",
]

logger = logging.getLogger(__name__)

#: Seconds between two signs of life.
INTERVAL = 25.0

#: Seconds that a sign of life counts: two may get lost.
_PRESENCE_TTL = 3.2 * INTERVAL

#: Seconds that a command waits to be fetched.
_COMMAND_TTL = 600.0

#: Running tasks that a worker names; of the others it tells the number.
MOST_SHOWN = 50

_WORKERS, _BOXES, _LETTERS = "workers/", "control/", "letters/"

#: What can't stand in the key of a fact, or separates its parts.
_ODD = re.compile(r"[^A-Za-z0-9.:@_-]")


class Running(Struct, frozen=True, kw_only=True):
    """A task that runs."""

    id: str
    task: str
    queue: str
    #: UNIX seconds.
    since: float


class Presence(Struct, frozen=True, kw_only=True):
    """A worker's process, as it says itself."""

    #: `<name>@<host>`.
    node: str
    pid: int
    #: UNIX seconds: its start, and when it said this.
    since: float
    seen: float
    queues: list[str]
    concurrency: int
    #: How many run, and those that have run longest.
    running_count: int
    running: list[Running]
    succeeded: int
    failed: int


class Command(Struct, frozen=True, kw_only=True):
    """What a worker is told to do."""

    do: Literal["shutdown", "concurrency"]
    #: Of "concurrency".
    amount: int | None = None


_decode_presence = msgspec.json.Decoder(Presence).decode
_decode_command = msgspec.json.Decoder(Command).decode


async def announce(coordination: Coordination, presence: Presence) -> None:
    """A sign of life."""
    fact = Fact(key=_worker_key(presence.node), value=msgspec.json.encode(presence), ttl=_PRESENCE_TTL)
    await coordination.put([fact])


async def leave(coordination: Coordination, node: str) -> None:
    """It ends in order: nobody need wait for the sign of life to expire."""
    await coordination.delete([_worker_key(node)])


async def workers(coordination: Coordination) -> list[Presence]:
    """Who works, by name."""
    found: list[Presence] = []
    for key, value in await coordination.scan(_WORKERS):
        try:
            found.append(_decode_presence(value))
        except msgspec.DecodeError as error:  # of another version, say: the others count all the same
            logger.warning("What %s says can't be read: %s", key, error)
    return sorted(found, key=lambda presence: presence.node)


async def post(
    coordination: Coordination, nodes: Sequence[str], command: Command, *, new_id: Callable[[], str]
) -> None:
    """Put a command into the boxes of some workers. They do it within `INTERVAL` seconds, each once."""
    value = msgspec.json.encode(command)
    await coordination.put(
        [Fact(key=f"{_box_prefix(node)}{new_id()}", value=value, ttl=_COMMAND_TTL) for node in nodes]
    )
    for node in nodes:  # whoever sees the counter move must find the letter
        await coordination.incr(letters_of(node), ttl=_COMMAND_TTL)


def letters_of(node: str) -> str:
    """The key of a fact that moves with each letter for a worker."""
    return f"{_LETTERS}{_ODD.sub('_', node)}"


async def fetch(coordination: Coordination, node: str) -> list[Command]:
    """Empty a worker's box."""
    letters = await coordination.scan(_box_prefix(node))
    if not letters:
        return []
    await coordination.delete([key for key, _ in letters])
    commands: list[Command] = []
    for _, value in letters:
        try:
            commands.append(_decode_command(value))
        except msgspec.DecodeError as error:
            logger.warning("A command can't be read: %s", error)
    return commands


def _worker_key(node: str) -> str:
    return f"{_WORKERS}{_ODD.sub('_', node)}"


def _box_prefix(node: str) -> str:
    return f"{_BOXES}{_ODD.sub('_', node)}/"
