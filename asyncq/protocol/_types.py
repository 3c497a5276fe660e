"""The structs that the wire turns into, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field


class Limits(Struct, frozen=True):
    """Bounds of the decode door. Whatever a stranger sends, decoding costs no more than this."""

    #: A message as it comes from the broker, in bytes.
    max_message_bytes: int = 16 * 1024 * 1024
    #: A body after decompression, in bytes.
    max_inflated_bytes: int = 64 * 1024 * 1024
    #: Inflated size over compressed size. Not asked below half a MiB: what is that small may be as dull as it likes.
    max_ratio: int = 200
    #: Nested arrays and objects.
    max_depth: int = 64
    #: Arrays and objects in one JSON document: many tiny ones take far more time and memory than their bytes. Five for
    #: each of `max_links` signatures.
    max_containers: int = 500_000
    #: Headers of one message.
    max_headers: int = 256
    #: Signatures in one of a message's lists of links (`callbacks`, `errbacks`, `chain`).
    max_links: int = 100_000
    #: Compressions that may be undone, by a name of Celery's (`zlib` or `gzip`, `bzip2`, `lzma`, `zstd`, `brotli`).
    compressions: frozenset[str] = frozenset({"zlib"})


#: The default of every `limits` argument.
DEFAULT_LIMITS = Limits()


class Properties(Struct):
    """AMQP's message properties, as far as Celery uses them (protocol 2, `properties` of the envelope)."""

    correlation_id: str | None = None
    reply_to: str | None = None
    #: 0 to 255, unchanged from the sender. Which end is served first depends on the broker.
    priority: int | None = None
    #: 2 is persistent, 1 is transient.
    delivery_mode: int = 2
    #: Milliseconds as decimal text, as AMQP has it: the broker may drop the message afterwards.
    expiration: str | None = None
    #: SQS (kombu's `MessageGroupId` and `MessageDeduplicationId`): messages of one group come in order from a FIFO
    #: queue, and get their fair share of any other; a FIFO queue drops what has the second id once more within minutes.
    message_group_id: str | None = None
    message_deduplication_id: str | None = None


class WireMessage(Struct):
    """What a broker carries: AMQP's model of a message, which the other brokers wrap in kombu's envelope."""

    body: bytes
    #: Insertion order is wire order. Values are the sender's.
    headers: dict[str, Any]
    properties: Properties = field(default_factory=Properties)
    content_type: str = "application/json"
    content_encoding: str = "utf-8"


class TaskMessage(Struct, kw_only=True):
    """A call of a task: Celery's message protocol 2 (and 1, read only), decoded and checked.

    Times are aware datetimes (a time without offset is UTC). Signatures (`callbacks`, `errbacks`, `chain`, `chord`) are
    kept as plain dicts.
    """

    task: str
    id: str
    args: list[Any] = field(default_factory=list[Any])
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    lang: str = "py"
    shadow: str | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    group: str | None = None
    group_index: int | None = None
    retries: int = 0
    #: Seconds. The wire's order is hard, soft.
    time_limit: float | None = None
    soft_time_limit: float | None = None
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = field(default_factory=dict[str, Any])
    #: Linked signatures; `chain` is in reverse order, its last element is the next step.
    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: Sequence[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None
    properties: Properties = field(default_factory=Properties)
    #: The transport (or a dead worker's rescue) says that somebody may have begun this before.
    redelivered: bool = False
    #: How the body came, so that a retry goes out the same way: a serialiser's and a compression's short name.
    serializer: str = "json"
    compression: str | None = None
    #: Message protocol: 1 or 2.
    protocol: int = 2
    #: Names one sending of a chord's body; None for every other message.
    dispatch: str | None = None
    #: It ran, and was lost with its worker: what it has failed with, as `describe_exception` has it, in JSON.
    lost: str | None = None


class ResultRecord(Struct, kw_only=True):
    """One task's record in a result backend (Celery's meta), decoded.

    For FAILURE, RETRY and REVOKED `result` is the exception's dict as it stands in the record; for SUCCESS it is the
    value; for a state of the user's own it is the meta.
    """

    task_id: str
    status: str
    result: Any = None
    traceback: str | None = None
    #: Result tuples of what the task sent; None where the writer knew of no request.
    children: list[Any] | None = None
    date_done: datetime | None = None
    group_id: str | None = None
    parent_id: str | None = None
    #: Fields that `result_extended` adds (`name`, `args`, `kwargs`, `worker`, `retries`, `queue`) and any unknown ones.
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
