"""What crosses the seam between a worker and a broker: queues, messages, deliveries, and how those are settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from asyncq.protocol import WireMessage


class Queue(Struct, frozen=True, kw_only=True):
    """A queue and how messages reach it. The defaults are Celery's: a direct exchange of the queue's own name."""

    name: str
    #: None means the queue's name.
    exchange: str | None = None
    exchange_type: str = "direct"
    #: None means the queue's name.
    routing_key: str | None = None
    durable: bool = True
    auto_delete: bool = False
    #: The broker's queue arguments (`x-max-priority`, `x-expires`, …).
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Publication(Struct, kw_only=True):
    """One message on its way out."""

    #: Bytes are stored as they stand, whatever they are: what no decoder took apart can go back to where it came from.
    #: A broker whose deliveries are messages and never bytes refuses them by an EncodeError.
    message: WireMessage | bytes
    #: Name of the target queue.
    queue: str
    #: "" is AMQP's default exchange, which routes by queue name.
    exchange: str = ""
    #: None means the queue's name.
    routing_key: str | None = None
    #: UNIX time in seconds before which nobody shall receive it: the broker *parks* it. Workers set this (a
    #: retry), and operators: a producer's message with an ETA goes straight to its queue, so that Celery's workers can
    #: have it.
    not_before: float | None = None
    #: How the target queue is made where it is not there yet; None: as `declare` was told, else as `Queue(name=…)`.
    #: Only brokers that know queues as things of their own look at it.
    target: Queue | None = None


class Delivery(Struct, eq=False):
    """One message, leased to one consumer."""

    #: Names this delivery and no other, not even another delivery of the same message: the fencing token.
    tag: str
    queue: str
    #: kombu's envelope, still encoded; or the message itself, from a transport that takes it apart (AMQP).
    content: bytes | WireMessage
    #: The broker says that it was delivered before. False may also mean "not known".
    redelivered: bool = False
    #: Deliveries so far, this one included, where the broker counts.
    count: int | None = None
    #: Monotonic time at which the driver asked the server for it: the lease began no earlier. Left at 0, the worker
    #: takes it for old and confirms it by `extend` before it starts the task.
    asked_at: float = 0.0


# -- settling ------------------------------------------------------------------------------------------------


class Ack(Struct, frozen=True):
    """Done: forget the message."""

    delivery: Delivery


class Requeue(Struct, frozen=True):
    """Back to its queue, marked as redelivered: behind the others, or before them with `front`."""

    delivery: Delivery
    front: bool = False


class GiveBack(Struct, frozen=True):
    """Never started: back to where it was taken from, next in line, in the order in which it was taken. No blame."""

    delivery: Delivery


class Park(Struct, frozen=True):
    """Back to its queue at `until` (UNIX seconds), as it came, under its own priority. Nobody holds it meanwhile."""

    delivery: Delivery
    until: float


class Dead(Struct, frozen=True):
    """To the dead letters of its queue, in one step with the acknowledgement (or before it, confirmed).

    `letter` is what to write there; `asyncq.protocol.dead_letter` makes it.
    """

    delivery: Delivery
    letter: WireMessage


Settlement: TypeAlias = Ack | Requeue | GiveBack | Park | Dead
