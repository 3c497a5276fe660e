"""The Protocols that a broker implements, and what it says of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from asyncq.driver._messages import Delivery, Publication, Queue, Settlement
from asyncq.protocol import WireMessage


class BrokerCapabilities(Struct, frozen=True, kw_only=True):
    """What a broker can't do, said before somebody needs it."""

    #: Which priority number is served first.
    priority_order: Literal["lowest-first", "highest-first", "none"]
    #: A delivery comes back by itself unless `extend` renews it (else: when its connection ends).
    leases: bool
    #: Other processes can reach the same queues.
    shared: bool
    #: Messages outlive a restart of the server, or of the process where there is no server.
    durable: bool
    #: `peek`, `release` and `depth().in_flight` see deliveries of other processes.
    sees_in_flight: bool = True
    #: A consumer may be sent more than `receive` has asked for, up to its `prefetch`; it gives back what it can't use.
    pushes: bool = False
    #: Seconds after which the server takes an unacknowledged delivery away, whoever works on it.
    hold_limit: float | None = None
    #: `peek`, `move` and `drop` reach what is parked (else they raise BrokerError for that place).
    sees_parked: bool = True
    #: It can carry a message to every worker at once. Else workers tell of themselves through the coordination store.
    fanout: bool = True
    #: A queue is first in, first out; what comes back takes the place that it is given. Else order is best effort.
    ordered: bool = True
    #: The largest message, envelope included, in bytes.
    max_message_bytes: int | None = None


class QueueDepth(Struct, frozen=True, kw_only=True):
    """How many messages a queue has, by place. None: the broker can't tell."""

    ready: int
    in_flight: int | None
    parked: int | None
    dead: int | None


#: Where a message of a queue may stand without being anybody's delivery.
Place: TypeAlias = Literal["ready", "parked", "dead"]


class Stored(Struct, frozen=True, kw_only=True):
    """One message as an operator looks at it; nobody holds it."""

    #: Names it for `move` and `drop`, within its place.
    key: str
    queue: str
    content: bytes | WireMessage
    #: UNIX seconds until which it is parked.
    until: float | None = None


class ConsumerOptions(Struct, frozen=True, kw_only=True):
    """How a worker consumes."""

    #: `<name>@<host>`, unique: the owner that leases are recorded under.
    node: str
    #: Seconds until an unextended delivery may go to somebody else.
    lease: float = 60.0
    #: The most deliveries that may be out at a time; a broker that pushes needs it.
    prefetch: int = 200


class Consumer(Protocol):
    """One worker's hold on some queues. One task at a time may await `receive`; the other methods may run beside it."""

    async def receive(self, limit: int) -> list[Delivery]:
        """Wait until something is there, then take 1 to `limit` deliveries in one atomic step.

        Order: priority steps strictly, within a step the queues take turns, within a queue first in, first out.
        Waiting costs the server next to nothing and takes nothing. Cancelled while waiting: nothing was taken;
        cancelled while taking: what was taken comes back by its lease.

        Raises BrokerConnectionError, and BrokerFull where even taking needs room.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle deliveries of this consumer, in order; return those that were no longer ours, which stay untouched.

        Idempotent: settling again what is settled reports it as no longer ours. Works on a full server, so far as the
        settlement itself stores nothing.

        Raises BrokerConnectionError (fate unknown: call again), BrokerFull (what stores something was not done, and a
        Requeue maybe not: where the server knows none, it is stored anew).
        """
        ...

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Start the leases anew; return those that were no longer ours. A no-op without leases.

        Raises BrokerConnectionError, and BrokerFull where even this needs room and none is left.
        """
        ...

    async def maintain(self) -> float:
        """Do the housekeeping that any consumer of the queues does for all: rescue expired leases, return due parked
        messages to their queues. Safe when everybody does it at once. Returns the seconds until the next call is due.
        """
        ...

    @property
    def last_contact(self) -> float:
        """Monotonic time of the server's last answer, for health checks."""
        ...

    async def close(self) -> None:
        """End `receive` (it raises BrokerConnectionError), give back what was taken and not handed out.

        Ends within a second. Deliveries that are neither settled nor given back stay leased.
        """
        ...


class Broker(Protocol):
    """Queues on one server. An instance belongs to the event loop that first awaits it."""

    @property
    def capabilities(self) -> BrokerCapabilities: ...

    @property
    def address(self) -> str:
        """Where it is, for people: a URL without secrets, or a file's path."""
        ...

    async def open(self) -> None:
        """Connect and check that the server will do. Raises BrokerConnectionError, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Release every connection. Calls under way end with BrokerConnectionError. May be called twice."""
        ...

    async def declare(self, queues: Sequence[Queue]) -> None:
        """Make sure that the queues exist, as far as the broker knows such a thing."""
        ...

    async def publish(self, publications: Sequence[Publication]) -> None:
        """Store all of them, durably as the broker understands it, in order.

        Raises PublishError when some were refused (the others stand), BrokerFull when nothing was stored,
        BrokerConnectionError when the fate is unknown.
        """
        ...

    def consume(self, queues: Sequence[Queue], options: ConsumerOptions) -> Consumer:
        """A consumer of these queues; nothing is taken before its first `receive`."""
        ...

    async def release(self, node: str, *, ended: Collection[str] = ()) -> int:
        """Give back at once everything that the (dead) node holds, in the order it was taken. Returns how many.

        Its deliveries with the tags in `ended` are acknowledged instead: their tasks had come to their end, and only
        that was still to be said.
        """
        ...

    async def depth(self, queue: str) -> QueueDepth: ...

    async def purge(self, queue: str) -> int:
        """Drop all that is ready. What is in flight, parked or dead stays. Returns how many."""
        ...

    async def peek(self, queue: str, place: Place, *, limit: int = 100, offset: int = 0) -> list[Stored]:
        """The next `limit` messages of a place behind the first `offset`, in order, without taking them."""
        ...

    async def move(self, queue: str, place: Place, keys: Sequence[str], *, until: float | None = None) -> int:
        """Put messages of a place back on the queue as they stand (`until`: parked until then). Returns how many."""
        ...

    async def drop(self, queue: str, place: Place, keys: Sequence[str]) -> int:
        """Delete messages of a place for good. Returns how many."""
        ...


@runtime_checkable
class TagReleasing(Protocol):
    """A broker whose server doesn't tell who holds what, so that `release` finds nothing: the tags are all there is."""

    async def release_tags(self, held: Mapping[str, str], *, ended: Collection[str] = ()) -> int:
        """`Broker.release` for deliveries of a dead node, by tag, each with its queue. Returns how many went back."""
        ...
