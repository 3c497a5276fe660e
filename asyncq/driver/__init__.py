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
allow, `Joining` gives `Chords`, which bring their parts together, `GroupKeeping` keeps groups for later.
Events and remote control will have theirs, a `Broadcaster` with `broadcast` and `listen`.
"""

from asyncq.driver._backend import BackendCapabilities, GroupKeeping, Replying, ResultBackend, StoredResult
from asyncq.driver._broker import (
    Broker,
    BrokerCapabilities,
    Consumer,
    ConsumerOptions,
    Place,
    QueueDepth,
    Stored,
    TagReleasing,
)
from asyncq.driver._config import Clock, DriverConfig, Environment
from asyncq.driver._coordination import Coordinating, Coordination, Fact
from asyncq.driver._joining import (
    CLAIM,
    CLAIM_WHILE_SENDING,
    CLOSED,
    ChordClaim,
    ChordOpening,
    ChordPart,
    Chords,
    Joining,
)
from asyncq.driver._messages import Ack, Dead, Delivery, GiveBack, Park, Publication, Queue, Requeue, Settlement
from asyncq.driver._permissions import Permitted, PolicyStatement, Role

__all__ = [
    "CLAIM",
    "CLAIM_WHILE_SENDING",
    "CLOSED",
    "Ack",
    "BackendCapabilities",
    "Broker",
    "BrokerCapabilities",
    "ChordClaim",
    "ChordOpening",
    "ChordPart",
    "Chords",
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
    "GroupKeeping",
    "GiveBack",
    "Joining",
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
