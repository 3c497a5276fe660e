"""The seam between asyncq and a server: the Protocols that a driver implements, and the structs that cross them.

A driver is found through the entry-point groups `asyncq.brokers` and `asyncq.backends`, keyed by URL scheme: the
entry names a callable that takes a `DriverConfig` and returns a `Broker` or a `ResultBackend`. asyncq's own drivers
register the same way as a third party's, and all of them prove themselves with the same suites
(`asyncq.testing.broker_contract`, `backend_contract` and `coordination_contract`).

Rules for every method that awaits:

* **Batch is the unit.** One call is one round trip where the server allows it. A member of a batch that the server
  refuses doesn't take the others with it.
* **Cancellation is safe at every await**: nothing taken is lost, nothing is half done, and the next call on the same
  object gets its own reply. What the server may have done before the cancellation is found again (leases expire).
* **A deadline of the driver's own** (`DriverConfig.timeout`) stands around every call: it ends in
  `BrokerConnectionError` / `BackendConnectionError`, never in a hang, and never in a `CancelledError` that nobody
  asked for.
* **One attempt to reconnect a call, no loop.** Backing off while a server is away is the caller's: it knows whether it
  may stop. Whatever is not idempotent is never sent twice.
* **No reading of task bodies.** A driver moves messages; `asyncq.protocol` takes them apart.

What only some servers can do stands in Protocols of its own, found by `isinstance` on a broker or a backend, so that
a driver without it stays a whole driver: `Coordinating` gives a `Coordination` (revokes, unique keys, rate limits),
`TagReleasing` gives a dead node's deliveries back where the server knows no nodes, `Permitted` says what a policy must
allow.
Events and remote control will have theirs, a `Broadcaster` with `broadcast` and `listen`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct, field

from asyncq.protocol import WireMessage

__all__ = [
    "Ack",
    "BackendCapabilities",
    "Broker",
    "BrokerCapabilities",
    "Clock",
    "Consumer",
    "ConsumerOptions",
    "Coordinating",
    "Coordination",
    "Dead",
    "Delivery",
    "DriverConfig",
    "Environment",
    "Fact",
    "GiveBack",
    "Park",
    "Permitted",
    "Place",
    "PolicyStatement",
    "Publication",
    "Queue",
    "QueueDepth",
    "Replying",
    "Requeue",
    "ResultBackend",
    "Role",
    "Settlement",
    "Stored",
    "StoredResult",
    "TagReleasing",
]


# -- what a driver is made of --------------------------------------------------------------------------------


class Clock(Protocol):
    """Time as an argument."""

    def monotonic(self) -> float:
        """Seconds since some point in the past; never jumps. For durations."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 (UTC); may jump. For dates."""
        ...


class Environment(Struct, frozen=True):
    """What differs from run to run, in one argument: clocks, dice, ids."""

    clock: Clock
    random: random.Random
    #: Makes a task id (UUID 4 as dashed text, unless a test says otherwise).
    new_id: Callable[[], str]


class DriverConfig(Struct, frozen=True, kw_only=True):
    """All that a driver is told. `repr` shows no URL, since URLs carry passwords."""

    url: str
    #: Name of the app, for client names on the server and for default places.
    app: str
    environment: Environment
    #: Celery's `broker_transport_options` or `result_backend_transport_options`. Unknown keys are a ConfigurationError
    #: that names them.
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    #: Celery's `broker_use_ssl` / `redis_backend_use_ssl`: None means "as the URL says".
    tls: Mapping[str, Any] | bool | None = None
    #: Seconds that one call on the network may take, connecting included.
    timeout: float = 10.0
    #: Belongs to one app: where in-process drivers keep what their instances share.
    shared: MutableMapping[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return f"DriverConfig(scheme={self.url.partition(':')[0]!r}, app={self.app!r})"


# -- messages ------------------------------------------------------------------------------------------------


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


# -- brokers -------------------------------------------------------------------------------------------------


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

        Raises BrokerConnectionError (fate unknown: call again), BrokerFull (what stores something was not done).
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


# -- permissions ---------------------------------------------------------------------------------------------


#: Who needs a permission.
Role: TypeAlias = Literal["producer", "worker"]

#: One statement of an IAM policy, as its JSON has it.
PolicyStatement: TypeAlias = Mapping[str, str | Sequence[str]]


@runtime_checkable
class Permitted(Protocol):
    """A broker or a result backend in a cloud, where a policy says who may do what."""

    def policy(self, role: Role, queues: Sequence[str]) -> list[PolicyStatement]:
        """The least that a role must be allowed for these queues. Shows no secret, and asks no server."""
        ...


# -- result backends -----------------------------------------------------------------------------------------


class BackendCapabilities(Struct, frozen=True, kw_only=True):
    """What a result backend can't do."""

    #: Other processes can read the same results.
    shared: bool
    #: `watch` is told of changes (else it polls).
    push: bool
    #: The largest record in bytes.
    max_record_bytes: int | None = None


class StoredResult(Struct, kw_only=True):
    """One record on its way in."""

    task_id: str
    #: The encoded record (`asyncq.protocol.encode_result`): what readers get, byte for byte.
    record: bytes
    #: The state that the record says, so that a driver needs not decode it.
    status: str
    #: Seconds until it expires; None keeps it for ever.
    expires: float | None = None
    #: Whom the sender of the task has named to be told; None where nobody was. For backends that keep no records.
    reply_to: str | None = None


class ResultBackend(Protocol):
    """Records of tasks, by task id. An instance belongs to the event loop that first awaits it."""

    @property
    def capabilities(self) -> BackendCapabilities: ...

    @property
    def address(self) -> str:
        """Where it is, for people: a URL without secrets, or a file's path."""
        ...

    async def open(self) -> None:
        """Connect and check. Raises BackendConnectionError, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Release every connection. May be called twice."""
        ...

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        """Write records, tell watchers. False for a member whose task had a SUCCESS record, which is never overwritten.

        The later of two records of one task in a batch wins, by the same rule.
        Raises BackendConnectionError (fate unknown: store again), BackendFull.
        """
        ...

    async def get(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """The records as they were stored; None where there is none (never stored, expired, forgotten)."""
        ...

    def watch(self, task_ids: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """Follow some tasks: `async with backend.watch(ids) as changes: async for task_id, record in changes: …`.

        Once entered, no later change is missed for good: the iterator gives each task's record of that moment, where
        there is one, then each change; of several changes in a row it may give the last alone. It goes on through
        reconnects, never ends by itself, and looks for itself now and then, since some writers announce nothing.
        """
        ...

    async def forget(self, task_ids: Sequence[str]) -> None:
        """Delete records."""
        ...


@runtime_checkable
class Replying(Protocol):
    """A result backend that keeps no records: they go to whoever sent the task, and to nobody else."""

    async def reply_address(self) -> str:
        """The `reply_to` of messages whose results this instance shall get. It hears them from now on.

        Raises BackendConnectionError.
        """
        ...


# -- coordination --------------------------------------------------------------------------------------------


class Fact(Struct, frozen=True, kw_only=True):
    """Something small that all workers and clients of an app shall know for a while."""

    #: Letters and digits of ASCII and any of `.:/@-_` (at most 512 characters); the driver puts its own prefix in front
    #: of it.
    key: str
    value: bytes
    #: Seconds until it is forgotten.
    ttl: float


class Coordination(Protocol):
    """Small shared facts with a time to live. An instance belongs to the event loop of the driver that gave it.

    Every method is atomic for each key, and safe to cancel: whether a cancelled call had its effect is then unknown.
    All raise BrokerError or BackendError (the connection's above all), as the driver that gave it does, and ValueError
    for a key, a prefix, a time, a rate or a capacity that can't be, before anything is done.
    """

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        """Write facts, in order. With `if_absent`, False for those whose key was taken, maybe by an earlier one of the
        batch: what is there stays as it is. With `if_same`, False for those whose key has another value, or none (any
        more): the time to live of the others begins anew. Not both.
        """
        ...

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values; None for what is not there (any more)."""
        ...

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        """Forget facts; with `if_value` only those that have this value. Returns how many were forgotten."""
        ...

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        """Add to a counter (which is 0 when it is not there) and renew its time to live. Returns the new number.

        `get` gives it as decimal text. Raises ValueError when what is there is no number, and leaves it.
        """
        ...

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        """Take a token from a bucket that fills with `rate` tokens a second and holds `capacity`; at first it is full.

        Returns 0.0 when there was one. Otherwise the token is *reserved*, and the seconds until it is there are
        returned: callers line up, each with a time of its own, and nobody needs to ask again. Buckets are no facts:
        they have names of their own, and are forgotten when they are full.
        """
        ...

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        """All facts whose keys begin with `prefix`, in the order of their keys."""
        ...


@runtime_checkable
class Coordinating(Protocol):
    """A broker or a result backend whose server can coordinate."""

    @property
    def coordination(self) -> Coordination: ...
