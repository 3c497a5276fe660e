"""Last wills: what is to be done for a task that was acknowledged before it ran, when its worker dies with it.

Its message is gone from the broker. Where somebody waits for more than its result (a chord for its part, the later
steps of a chain, errbacks), the worker keeps the message as a fact while the task runs. Whoever cleans up after the
worker sends it once more, marked as lost: who receives it doesn't run it, but ends it as failed, with all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncq._suspicion import key_of
from asyncq.driver import Coordination, Delivery, Fact
from asyncq.errors import DecodeError
from asyncq.protocol import TaskMessage, WireMessage, decode_envelope, encode_envelope

__all__ = ["drop_wills", "needs_will", "read_wills", "write_will"]

#: Seconds that one is kept: what runs for longer than that is lost without.
_TTL = 86400.0


def needs_will(message: TaskMessage) -> bool:
    """Whether somebody is to be told when it is lost. What Celery 3 sent (protocol 1) can't be marked as lost."""
    return message.protocol != 1 and bool(message.chord or message.chain or message.errbacks)


async def write_will(coordination: Coordination, task_id: str, delivery: Delivery) -> None:
    """Keep a task's message. Raises EncodeError, BrokerError, BackendError."""
    content = delivery.content
    if not isinstance(content, bytes):
        content = encode_envelope(content, routing_key=delivery.queue, delivery_tag="")
    await coordination.put([Fact(key=_key(task_id), value=content, ttl=_TTL)])


async def read_wills(coordination: Coordination, task_ids: Sequence[str]) -> list[WireMessage | None]:
    """The messages of tasks; None where none is kept. Raises BrokerError, BackendError."""
    return [_read(content) for content in await coordination.get([_key(task_id) for task_id in task_ids])]


async def drop_wills(coordination: Coordination, task_ids: Sequence[str]) -> None:
    """They have ended. Raises BrokerError, BackendError."""
    if task_ids:
        await coordination.delete([_key(task_id) for task_id in task_ids])


def _key(task_id: str) -> str:
    return f"will.{key_of(task_id)}"


def _read(content: bytes | None) -> WireMessage | None:
    if content is None:
        return None
    try:
        return decode_envelope(content)
    except DecodeError:  # a later version's, say
        return None
