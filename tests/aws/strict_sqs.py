"""A stricter SQS than moto's, spoken to over HTTP by the real client, in the test's own event loop.

It keeps AWS's word where moto is lenient: a stale receipt handle settles nothing, a message can be hidden for twelve
hours after its receive and no longer, a standard queue has room for so many in flight. And it can be told to misbehave
as AWS may: to fail single members of a batch, to throttle, to deliver twice, to freeze.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

from aiohttp import web
from msgspec import Struct, field

#: AWS's figures.
MOST_HIDDEN, MOST_DELAY, MOST_BYTES, MOST_MEMBERS = 43_200, 900, 1_048_576, 10

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_NO_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Json = dict[str, Any]


class SqsError(Exception):
    """SQS's no."""

    def __init__(self, code: str, text: str = "", status: int = 400) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.status = status


class Message(Struct, eq=False):
    id: str
    body: str
    attributes: Json
    group: str | None
    sent: float
    #: Clock time from which it can be received.
    visible: float
    handle: str | None = None
    received: int = 0
    first_received: float = 0.0
    taken_at: float = 0.0


class StrictQueue(Struct, eq=False):
    name: str
    attributes: dict[str, str]
    messages: list[Message] = field(default_factory=list[Message])
    #: Deduplication id -> clock time at which it is forgotten.
    seen: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


class StrictSqs:
    """One account. `async with StrictSqs() as sqs: …`; `sqs.url` is the broker's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.queues: dict[str, StrictQueue] = {}
        #: Requests by action.
        self.requests: Counter[str] = Counter()
        #: Access keys that have signed.
        self.keys: set[str] = set()
        #: Members of batches that were sent, deleted, changed.
        self.members: Counter[str] = Counter()
        #: Seconds that the clock is ahead: twelve hours need not be waited for.
        self.ahead = 0.0
        #: How many requests of an action are throttled next.
        self.throttled: Counter[str] = Counter()
        #: How many receives that don't wait ask machines next that have nothing.
        self.blind = 0
        #: Statuses that an action's next requests are answered with, before anything is done.
        self.broken: dict[str, list[int]] = {}
        #: How many members of an action's batches fail next by the server's fault.
        self.failing: Counter[str] = Counter()
        #: Every n-th delivered message stays visible for a second receive.
        self.double_every = 0
        #: Actions that the policy denies.
        self.denied: set[str] = set()
        self.most_in_flight = 120_000
        #: Requests that wait for the thaw.
        self.waiting = 0
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._clock = clock
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.thawed.set()
        await self.stop()

    @property
    def url(self) -> str:
        return f"sqs://key:secret@127.0.0.1:{self.port}"

    async def start(self) -> None:
        application = web.Application(client_max_size=8 * 1024 * 1024)
        application.router.add_post("/", self._handle)
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[None]:
        self.thawed.clear()
        try:
            yield
        finally:
            self.thawed.set()

    def now(self) -> float:
        return self._clock() + self.ahead

    def advance(self, seconds: float) -> None:
        """Let time pass for the server alone."""
        self.ahead += seconds
        self._changed.set()

    # -- HTTP

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.waiting += 1
        await self.thawed.wait()
        self.waiting -= 1
        action = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.requests[action] += 1
        self.keys.add(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        try:
            if action in self.denied:
                raise SqsError("AccessDenied", f"not authorized to perform: sqs:{action}", 403)
            if self.throttled[action] > 0:
                self.throttled[action] -= 1
                raise SqsError("RequestThrottled", "slow down", 400)
            if self.broken.get(action):
                raise SqsError("InternalError", "try again", self.broken[action].pop())
            answer = await self._actions[action](self, json.loads(body))
        except SqsError as error:
            content = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.text}
            return web.json_response(content, status=error.status, content_type="application/x-amz-json-1.0")
        return web.json_response(answer, content_type="application/x-amz-json-1.0")

    # -- queues

    async def _get_url(self, asked: Json) -> Json:
        return {"QueueUrl": self._url_of(self._named(asked["QueueName"]))}

    async def _list(self, asked: Json) -> Json:
        prefix = asked.get("QueueNamePrefix", "")
        return {"QueueUrls": [self._url_of(queue) for name, queue in self.queues.items() if name.startswith(prefix)]}

    async def _create(self, asked: Json) -> Json:
        name, attributes = asked["QueueName"], dict(asked.get("Attributes", {}))
        if not _NAME.fullmatch(name):
            raise SqsError("InvalidParameterValue", "Can only include alphanumeric characters, hyphens, or underscores")
        if name.endswith(".fifo") != (attributes.get("FifoQueue") == "true"):
            raise SqsError("InvalidParameterValue", "FifoQueue and the name's ending disagree")
        found = self.queues.get(name)
        if found is not None and any(found.attributes.get(key) != value for key, value in attributes.items()):
            raise SqsError("QueueNameExists", "A queue already exists with the same name and different attributes")
        queue = found or self.queues.setdefault(name, StrictQueue(name, {"VisibilityTimeout": "30", **attributes}))
        return {"QueueUrl": self._url_of(queue)}

    async def _attributes(self, asked: Json) -> Json:
        queue, now = self._queue(asked), self.now()
        hidden = [m for m in queue.messages if m.visible > now]
        delayed = [m for m in hidden if m.received == 0]
        counts = {
            "ApproximateNumberOfMessages": len(queue.messages) - len(hidden),
            "ApproximateNumberOfMessagesNotVisible": len(hidden) - len(delayed),
            "ApproximateNumberOfMessagesDelayed": len(delayed),
        }
        known = {**queue.attributes, **counts}
        return {"Attributes": {name: str(known[name]) for name in asked["AttributeNames"] if name in known}}

    # -- messages

    async def _send(self, asked: Json) -> Json:
        return self._put(self._queue(asked), asked)

    async def _send_batch(self, asked: Json) -> Json:
        queue, entries = self._queue(asked), self._entries(asked)
        if sum(self._size(entry) for entry in entries) > MOST_BYTES:
            raise SqsError("BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.")
        return self._each("SendMessageBatch", entries, lambda entry: self._put(queue, entry))

    async def _receive(self, asked: Json) -> Json:
        queue, deadline = self._queue(asked), self._clock() + asked.get("WaitTimeSeconds", 0)
        if self.blind and not asked.get("WaitTimeSeconds"):
            self.blind -= 1
            return {}
        while True:
            messages = self._take(queue, asked)
            left = deadline - self._clock()
            if messages or left <= 0:
                return {"Messages": messages} if messages else {}
            self._changed.clear()
            now = self.now()
            soonest = min((m.visible - now for m in queue.messages if m.visible > now), default=left)
            try:
                async with asyncio.timeout(max(min(left, soonest), 0.001)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _delete(self, asked: Json) -> Json:
        self._remove(self._queue(asked), asked)
        return {}

    async def _delete_batch(self, asked: Json) -> Json:
        queue = self._queue(asked)
        return self._each("DeleteMessageBatch", self._entries(asked), lambda entry: self._remove(queue, entry))

    async def _change(self, asked: Json) -> Json:
        self._hide(self._queue(asked), asked)
        return {}

    async def _change_batch(self, asked: Json) -> Json:
        queue = self._queue(asked)
        return self._each("ChangeMessageVisibilityBatch", self._entries(asked), lambda entry: self._hide(queue, entry))

    _actions: ClassVar[dict[str, Callable[[StrictSqs, Json], Any]]] = {
        "GetQueueUrl": _get_url,
        "ListQueues": _list,
        "CreateQueue": _create,
        "GetQueueAttributes": _attributes,
        "SendMessage": _send,
        "SendMessageBatch": _send_batch,
        "ReceiveMessage": _receive,
        "DeleteMessage": _delete,
        "DeleteMessageBatch": _delete_batch,
        "ChangeMessageVisibility": _change,
        "ChangeMessageVisibilityBatch": _change_batch,
    }

    # -- one message

    def _put(self, queue: StrictQueue, entry: Json) -> Json:
        body, delay = entry["MessageBody"], entry.get("DelaySeconds")
        if not body or _NO_TEXT.search(body):
            raise SqsError("InvalidParameterValue" if not body else "InvalidMessageContents", "no text")
        if self._size(entry) > MOST_BYTES:
            raise SqsError("InvalidParameterValue", "One or more parameters are invalid. Reason: Message too long")
        if delay is not None and (queue.fifo or not 0 <= delay <= MOST_DELAY):
            raise SqsError("InvalidParameterValue", f"Value {delay} for parameter DelaySeconds is invalid")
        group, deduplication, now = entry.get("MessageGroupId"), entry.get("MessageDeduplicationId"), self.now()
        if queue.fifo and (not group or not deduplication):
            raise SqsError("MissingParameter", "The request must contain MessageGroupId and MessageDeduplicationId")
        if not queue.fifo and deduplication:
            raise SqsError("InvalidParameterValue", "MessageDeduplicationId is for FIFO queues")
        number = f"m{next(self._numbers)}"
        if deduplication is None or queue.seen.get(deduplication, 0) <= now:
            if deduplication is not None:
                queue.seen[deduplication] = now + 300
            queue.messages.append(
                Message(number, body, entry.get("MessageAttributes", {}), group, now, now + (delay or 0))
            )
            self._changed.set()
        return {"MessageId": number, "MD5OfMessageBody": _md5(body), **_attributes_md5(entry)}

    def _take(self, queue: StrictQueue, asked: Json) -> list[Json]:
        now, most = self.now(), asked.get("MaxNumberOfMessages", 1)
        seconds = asked.get("VisibilityTimeout", int(queue.attributes["VisibilityTimeout"]))
        if not 1 <= most <= MOST_MEMBERS or not 0 <= seconds <= MOST_HIDDEN:
            raise SqsError("InvalidParameterValue", "out of range")
        hidden = [m for m in queue.messages if m.visible > now and m.received]
        if len(hidden) >= self.most_in_flight:
            raise SqsError("OverLimit", "Too many messages in flight", 403)
        blocked = {m.group for m in hidden} if queue.fifo else set[str | None]()
        taken: list[Json] = []
        for message in queue.messages:
            if message.visible > now or (queue.fifo and message.group in blocked):
                continue
            message.handle = f"{message.id}#{next(self._numbers)}"
            message.received += 1
            message.first_received = message.first_received or time.time() + self.ahead
            message.taken_at = now
            double = self.double_every and int(message.id[1:]) % self.double_every == 0 and message.received == 1
            message.visible = now if double else now + seconds
            taken.append(_shown(message, asked))
            if len(taken) == most:
                break
        return taken

    def _remove(self, queue: StrictQueue, entry: Json) -> Json:
        message = self._held(queue, entry["ReceiptHandle"], must_hold=False)
        if message is not None:
            queue.messages.remove(message)
            self._changed.set()
        return {}

    def _hide(self, queue: StrictQueue, entry: Json) -> Json:
        seconds, now = entry["VisibilityTimeout"], self.now()
        message = self._held(queue, entry["ReceiptHandle"], must_hold=True)
        assert message is not None
        if not 0 <= seconds <= MOST_HIDDEN or now + seconds > message.taken_at + MOST_HIDDEN + 1:
            raise SqsError("InvalidParameterValue", "Total VisibilityTimeout is beyond the limit [43200 seconds]")
        message.visible = now + seconds
        self._changed.set()
        return {}

    def _held(self, queue: StrictQueue, handle: str, *, must_hold: bool) -> Message | None:
        number, _, receive = handle.partition("#")
        if not receive.isdigit() or not number.startswith("m"):
            raise SqsError("ReceiptHandleIsInvalid", "The input receipt handle is invalid")
        for message in queue.messages:
            if message.id == number:
                if message.handle != handle or (must_hold and message.visible <= self.now()):
                    raise SqsError("ReceiptHandleIsInvalid", "The receipt handle has expired")
                return message
        if must_hold:
            raise SqsError("InvalidParameterValue", "Message does not exist or is not available")
        return None  # deleting twice is no error

    # -- batches

    def _entries(self, asked: Json) -> list[Json]:
        entries = asked["Entries"]
        if not entries:
            raise SqsError("EmptyBatchRequest")
        if len(entries) > MOST_MEMBERS:
            raise SqsError("TooManyEntriesInBatchRequest")
        if len({entry["Id"] for entry in entries}) != len(entries):
            raise SqsError("BatchEntryIdsNotDistinct")
        return entries

    def _each(self, action: str, entries: list[Json], act: Callable[[Json], Json]) -> Json:
        answer: Json = {"Successful": [], "Failed": []}
        self.members[action] += len(entries)
        for entry in entries:
            try:
                if self.failing[action] > 0:
                    self.failing[action] -= 1
                    raise SqsError("InternalError", "try again", 500)
                answer["Successful"].append({"Id": entry["Id"], **act(entry)})
            except SqsError as error:
                fault = {"Code": error.code, "Message": error.text, "SenderFault": error.status < 500}
                answer["Failed"].append({"Id": entry["Id"], **fault})
        return answer

    # -- names

    def _url_of(self, queue: StrictQueue) -> str:
        return f"http://127.0.0.1:{self.port}/123456789012/{queue.name}"

    def _named(self, name: str) -> StrictQueue:
        if name not in self.queues:
            raise SqsError("QueueDoesNotExist", "The specified queue does not exist.")
        return self.queues[name]

    def _queue(self, asked: Json) -> StrictQueue:
        return self._named(asked["QueueUrl"].rpartition("/")[2])

    def _size(self, entry: Json) -> int:
        attributes = entry.get("MessageAttributes", {})
        return len(entry["MessageBody"].encode()) + sum(
            len(name) + len(value["DataType"]) + len(value["StringValue"]) for name, value in attributes.items()
        )


def _shown(message: Message, asked: Json) -> Json:
    shown: Json = {
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "Body": message.body,
        "MD5OfBody": _md5(message.body),
    }
    system = {
        "ApproximateReceiveCount": str(message.received),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
    }
    if message.group is not None:
        system["MessageGroupId"] = message.group
    wanted = asked.get("MessageSystemAttributeNames", [])
    if wanted:
        shown["Attributes"] = {name: system[name] for name in wanted if name in system}
    names = asked.get("MessageAttributeNames", [])
    found = {name: value for name, value in message.attributes.items() if name in names}
    if found:
        shown["MessageAttributes"] = found
    return shown


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _attributes_md5(entry: Json) -> Json:
    attributes = entry.get("MessageAttributes", {})
    if not attributes:
        return {}
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        for text in (name, attributes[name]["DataType"]):
            digest.update(len(text).to_bytes(4, "big") + text.encode())
        value = attributes[name]["StringValue"].encode()
        digest.update(b"\x01" + len(value).to_bytes(4, "big") + value)
    return {"MD5OfMessageAttributes": digest.hexdigest()}
