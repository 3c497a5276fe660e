"""Who may have killed a worker: what workers, and those who clean up after them, write down and read about a task.

Two facts a task, by its id, for a day:

* `convicted.<id>`: it is known to have blocked or outlived its worker. Nobody runs it again; whoever receives it
  concludes it.
* `suspect.<id>`: how often, and how, a process died with it. A crowd that dies together makes each of its members a
  suspect, once. What goes on from there is proved: a suspect runs in quarantine, alone in a process, and only that
  process's deaths are added. Innocents end there, however many poisons they were in company with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from asyncq.driver import Coordination, Fact

__all__ = [
    "Conviction",
    "Suspicion",
    "close_files",
    "convict",
    "conviction_key",
    "key_of",
    "read_files",
    "suspicion_key",
    "withdraw_run",
    "write_suspicions",
]

T = TypeVar("T")

#: Seconds that both are kept: longer than a broker takes to deliver again what a dead worker held.
_TTL = 86400.0

#: What the key of a fact may be made of, with room for what stands before it.
_PLAIN = re.compile(r"[A-Za-z0-9.:/@_-]{1,400}")


class Conviction(Struct, frozen=True):
    """A task shall not run again. As its supervisor put it down."""

    #: For people.
    reason: str
    #: Seconds that it was allowed to take.
    limit: float


class Suspicion(Struct):
    """What speaks against a task."""

    #: How a process died with it, each time, for people.
    deaths: list[str] = msgspec.field(default_factory=list[str])
    #: A worker was lost while it ran there among others. That worker may have died of it, or of anything; or it may
    #: only have slept, and its lease have ended: a reason to be careful, and no proof of a death.
    doubtful: bool = False
    #: Node on which a run of it has begun whose end nobody has told yet; empty for none.
    node: str = ""
    #: That run is in quarantine: it dies alone, and is not to blame when its worker dies.
    isolated: bool = False
    #: Deliveries before this one that nobody has accounted for; from a server that counts, where nothing else is known.
    #: They may have been handed back. So they prove nothing, but with a death in quarantine they add up.
    unexplained: int = 0

    @property
    def calls_for_quarantine(self) -> bool:
        """Whether it may be dangerous to others."""
        return self.doubtful or bool(self.deaths or self.unexplained)

    def presume(self, *, dead: bool) -> None:
        """Draw the conclusion from a run whose end nobody has told, and nobody will: its worker was lost.

        Only what was alone is counted, for whole machines that die of what runs in quarantine; and only where that the
        worker was lost means that it is `dead`, for all that one can tell.
        """
        if self.node:
            if self.isolated and dead:
                self.deaths.append(f"{self.node} died while it ran in quarantine")
            self.doubtful = True
            self.node, self.isolated = "", False

    def at_rest(self) -> Suspicion:
        """What speaks against it while it doesn't run."""
        return Suspicion(deaths=self.deaths, doubtful=self.doubtful)

    def convicts(self, most: int) -> bool:
        """Whether these are too many deaths, as `most` are: at least 2, since it may only have witnessed the first."""
        return bool(self.deaths) and len(self.deaths) + self.unexplained >= most


def conviction_key(task_id: str) -> str:
    return f"convicted.{key_of(task_id)}"


def suspicion_key(task_id: str) -> str:
    return f"suspect.{key_of(task_id)}"


def key_of(task_id: str) -> str:
    """A task's id as a part of a fact's key."""
    # Ids are the sender's, and may be anything.
    return task_id if _PLAIN.fullmatch(task_id) else hashlib.sha256(task_id.encode(errors="replace")).hexdigest()


async def convict(coordination: Coordination, task_id: str, conviction: Conviction) -> None:
    """Let nobody run a task again. Raises BrokerError, BackendError."""
    await coordination.put([Fact(key=conviction_key(task_id), value=msgspec.json.encode(conviction), ttl=_TTL)])


async def read_files(
    coordination: Coordination, task_ids: Sequence[str]
) -> list[tuple[Conviction | None, Suspicion | None]]:
    """What is known of tasks, in one round trip. Raises BrokerError, BackendError."""
    keys = [key for task_id in task_ids for key in (conviction_key(task_id), suspicion_key(task_id))]
    values = await coordination.get(keys)
    return [
        (_read(convicted, Conviction), _read(suspected, Suspicion))
        for convicted, suspected in zip(values[::2], values[1::2], strict=True)
    ]


async def write_suspicions(coordination: Coordination, suspicions: Sequence[tuple[str, Suspicion]]) -> None:
    """Write what speaks against tasks (by their ids); where nothing does, that is forgotten.

    No counters: a delivery has one holder, who may repeat this as often as it takes. Raises BrokerError, BackendError.
    """
    facts: list[Fact] = []
    cleared: list[str] = []
    for task_id, suspicion in suspicions:
        key = suspicion_key(task_id)
        if suspicion.calls_for_quarantine or suspicion.node:
            facts.append(Fact(key=key, value=msgspec.json.encode(suspicion), ttl=_TTL))
        else:
            cleared.append(key)
    if facts:
        await coordination.put(facts)
    if cleared:
        await coordination.delete(cleared)


async def withdraw_run(coordination: Coordination, task_id: str, suspicion: Suspicion) -> None:
    """Forget what speaks against a task whose run has done no harm, unless somebody has written about it since.

    Raises BrokerError, BackendError.
    """
    await coordination.delete([suspicion_key(task_id)], if_value=msgspec.json.encode(suspicion))


async def close_files(coordination: Coordination, task_ids: Sequence[str]) -> None:
    """Forget all that is known of tasks: they have ended. Raises BrokerError, BackendError."""
    if task_ids:
        await coordination.delete([key for each in task_ids for key in (conviction_key(each), suspicion_key(each))])


def _read(value: bytes | None, kind: type[T]) -> T | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError:  # a later version's, say: nothing that could be held against anybody
        return None
