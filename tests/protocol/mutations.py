"""Messages that somebody has broken: captured ones, changed by seed in every way that a wire or a stranger may."""

from __future__ import annotations

import base64
import bz2
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import golden
from asyncq.protocol import ResultRecord, TaskMessage, WireMessage, decode_result, decode_task

#: Takes and gives raw bytes.
Edit: TypeAlias = Callable[[random.Random, bytes], bytes]

ENVELOPES = [
    raw for name in golden.names("redis") if not name.startswith("monitor") for raw in golden.redis_envelopes(name)
]
MESSAGES = [golden.amqp_message(golden.load("amqp", name)) for name in golden.names("amqp")]
RECORDS = [raw for name in golden.names("results") for raw in golden.stored_records(name).values()]

#: What stands in the place of a value.
_VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 0.5, "", "a", "\ud800", "\x00", "9999-99-99T99:99:99", "1970-01-01", [],
    {"__type__": "datetime", "__value__": "never"}, {"__type__": "uuid", "__value__": {"hex": "g"}}, {}, [[]],
    {"__type__": "os.system", "__value__": "true"}, "x" * 300, [None] * 70, {str(key): key for key in range(300)},
]  # fmt: skip

#: What JSON has no value for.
_RAW = [
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"9" * 5000,
    b'"\\ud800"',
    b"[" * 70,
    b'{"a":' * 70,
    b"[[" * 2000,
    b"\xff",
    b"'",
]

_COMPRESSED = [zlib.compress(b"0" * 20_000_000, 9), bz2.compress(b"0" * 1_000_000), zlib.compress(b"[[], {}, {}]")]


class Case(NamedTuple):
    """Something to decode."""

    content: bytes | WireMessage
    is_record: bool

    def decode(self) -> TaskMessage | ResultRecord:
        if self.is_record:
            assert isinstance(self.content, bytes)
            return decode_result(self.content)
        return decode_task(self.content)


def cases(seed: int) -> Iterator[Case]:
    """Without end; the same for the same seed."""
    dice = random.Random(seed)
    while True:
        match dice.randrange(5):
            case 0 | 1:
                yield Case(_mutated(dice, dice.choice(ENVELOPES)), is_record=False)
            case 2:
                yield Case(_mutated(dice, dice.choice(RECORDS)), is_record=True)
            case _:
                yield Case(_mutated_message(dice, dice.choice(MESSAGES)), is_record=False)


def _mutated(dice: random.Random, raw: bytes) -> bytes:
    for _ in range(dice.choice([1, 1, 1, 2, 5])):
        raw = dice.choice(_EDITS)(dice, raw)
    return raw


def _mutated_message(dice: random.Random, message: WireMessage) -> WireMessage:
    body, headers = message.body, dict(message.headers)
    if dice.random() < 0.7:
        body = _mutated(dice, body)
    else:
        headers[dice.choice([*headers, "compression", "redelivered"])] = dice.choice(_VALUES)
    if dice.random() < 0.02:
        body, headers["compression"] = dice.choice(_COMPRESSED), dice.choice(["gzip", "application/x-gzip", "bzip2"])
    return WireMessage(body, headers, message.properties, message.content_type, message.content_encoding)


def _flip(dice: random.Random, raw: bytes) -> bytes:
    if not raw:
        return raw
    at = dice.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << dice.randrange(8))]) + raw[at + 1 :]


def _truncate(dice: random.Random, raw: bytes) -> bytes:
    return raw[: dice.randint(0, len(raw))]


def _splice(dice: random.Random, raw: bytes) -> bytes:
    other = dice.choice(ENVELOPES)
    return raw[: dice.randint(0, len(raw))] + other[dice.randint(0, len(other)) :]


def _insert(dice: random.Random, raw: bytes) -> bytes:
    at = dice.randint(0, len(raw))
    return raw[:at] + dice.choice(_RAW) + raw[at + dice.randint(0, 3) :]


def _swap(dice: random.Random, raw: bytes) -> bytes:
    """A value of another type, somewhere in the document."""
    document = _parsed(raw)
    if not isinstance(document, dict | list) or not document:
        return json.dumps(dice.choice(_VALUES)).encode()
    place: Any = document
    while True:
        key: Any = dice.choice(list(place)) if isinstance(place, dict) else dice.randrange(len(place))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or dice.random() < 0.3:
            break
        place = inner
    place[key] = dice.choice(_VALUES)
    return json.dumps(document).encode()


def _rebody(dice: random.Random, raw: bytes) -> bytes:
    """The same inside of an envelope, whose body is base64."""
    envelope = _parsed(raw)
    if not isinstance(envelope, dict) or not isinstance(envelope.get("body"), str):
        return _flip(dice, raw)
    try:
        body = base64.b64decode(envelope["body"])
    except ValueError:
        return raw
    envelope["body"] = base64.b64encode(dice.choice([_swap, _insert, _truncate])(dice, body)).decode()
    return json.dumps(envelope).encode()


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


_EDITS: list[Edit] = [_flip, _truncate, _splice, _insert, _swap, _swap, _rebody, _rebody]
