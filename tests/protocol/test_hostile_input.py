"""Whatever comes in, a value or a DecodeError comes out (P2), soon and in bounded memory."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import (
    Limits,
    ResultRecord,
    TaskMessage,
    WireMessage,
    custom_headers,
    decode_envelope,
    decode_result,
    decode_task,
    dumps,
    encode_envelope,
    loads,
)
from asyncq.protocol._bounds import json_nests_deeper
from values import nested, plain_values

_SAFE = ("json", "msgpack", "yaml")
_EVERYTHING = Limits(compressions=frozenset({"zlib", "bzip2", "lzma", "zstd", "brotli"}))

_ENVELOPES = [
    raw for name in golden.names("redis") if not name.startswith("monitor") for raw in golden.redis_envelopes(name)
]
_MESSAGES = [golden.amqp_message(golden.load("amqp", name)) for name in golden.names("amqp")]
_RECORDS = [raw for name in golden.names("results") for raw in golden.stored_records(name).values()]


def _check(decode: Callable[[], object]) -> None:
    """A value of the types that it declares, or a DecodeError that says something."""
    refusal: DecodeError | None = None
    try:
        value = decode()
        if isinstance(value, TaskMessage) and value.chain is not None:
            value.chain = list(value.chain)  # decoded when they are looked at
    except DecodeError as exc:
        refusal = exc
    else:
        if isinstance(value, TaskMessage | ResultRecord | WireMessage):
            msgspec.convert(msgspec.structs.asdict(value), type(value))
    assert refusal is None or 0 < len(str(refusal)) < 2000


def _mutated(originals: list[bytes]) -> st.SearchStrategy[bytes]:
    edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 4)), min_size=1, max_size=4)
    return st.builds(_edit, st.sampled_from(originals), edits)


def _edit(raw: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    for where, new, dropped in edits:
        at = int(where * len(raw))
        raw = raw[:at] + new + raw[at + dropped :]
    return raw


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200) | _mutated(_ENVELOPES))
def test_any_bytes_are_a_task_or_a_decode_error(raw: bytes) -> None:
    _check(lambda: decode_task(raw, accept=_SAFE))
    _check(lambda: decode_envelope(raw))
    _check(lambda: custom_headers(raw))


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200) | _mutated(_RECORDS))
def test_any_bytes_are_a_record_or_a_decode_error(raw: bytes) -> None:
    _check(lambda: decode_result(raw, accept=_SAFE, limits=_EVERYTHING))


@settings(max_examples=100, deadline=None)
@given(
    raw=_mutated([message.body for message in _MESSAGES]),
    original=st.sampled_from(_MESSAGES),
    content_type=st.none()
    | st.sampled_from(["application/json", "application/x-msgpack", "application/x-yaml", "x/y"]),
    compression=st.none() | st.sampled_from(["zlib", "bzip2", "lzma", "zstd", "brotli", "rar", 5]),
)
def test_any_body_is_a_task_or_a_decode_error(
    raw: bytes, original: WireMessage, content_type: str | None, compression: object
) -> None:
    headers = {**original.headers, "compression": compression}
    wire = WireMessage(raw, headers, content_type=content_type or original.content_type)
    _check(lambda: decode_task(wire, accept=_SAFE, limits=_EVERYTHING))


_HEADER_NAMES = [*json.loads(_ENVELOPES[0])["headers"], "compression", "redelivered"]


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(_HEADER_NAMES), value=nested(plain_values), number=st.integers(0, len(_ENVELOPES) - 1))
def test_any_value_of_a_header_is_taken_or_refused(name: str, value: Any, number: int) -> None:
    envelope = json.loads(_ENVELOPES[number])
    envelope["headers"][name] = value
    _check(lambda: decode_task(json.dumps(envelope).encode()))


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(
        [
            ("body",), ("headers",), ("properties",), ("content-type",), ("content-encoding",),
            ("properties", "priority"), ("properties", "delivery_info"), ("properties", "body_encoding"),
            ("properties", "delivery_mode"), ("properties", "expiration"), ("properties", "correlation_id"),
            ("properties", "reply_to"), ("properties", "delivery_info", "redelivered"),
        ]
    ),
    value=nested(plain_values),
)  # fmt: skip
def test_any_value_in_the_envelope_is_taken_or_refused(path: tuple[str, ...], value: Any) -> None:
    envelope = json.loads(_ENVELOPES[0])
    place = envelope
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    _check(lambda: decode_task(json.dumps(envelope).encode()))
    del place[path[-1]]
    _check(lambda: decode_task(json.dumps(envelope).encode()))


@settings(max_examples=100, deadline=None)
@given(body=nested(plain_values) | st.lists(nested(plain_values), min_size=3, max_size=3))
def test_any_json_body_is_taken_or_refused(body: Any) -> None:
    wire = WireMessage(json.dumps(body).encode(), {"task": "t", "id": "i"})
    _check(lambda: decode_task(wire))
    _check(lambda: decode_task(WireMessage(wire.body, {})))


@settings(max_examples=100, deadline=None)
@given(body=st.dictionaries(st.sampled_from([*_HEADER_NAMES, "args", "taskset", "chord", "callbacks"]), plain_values))
def test_any_body_of_protocol_1_is_taken_or_refused(body: dict[str, Any]) -> None:
    raw = json.dumps({"task": "t", "id": "i", **body}).encode()
    _check(lambda: decode_task(WireMessage(raw, {})))


# -- depth ---------------------------------------------------------------------------------------------------

_TOO_DEEP = "nested deeper than 64 levels"


def _nest(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + closing * levels


_DEEP = {
    "arrays": _nest(65),
    "objects": _nest(65, '{"a":', "}").replace(":}", ":1}"),
    "mixed": _nest(33, '[{"a":', "}]").replace(":}", ":1}"),
    "not in a row": "[" + ",".join(['"["', _nest(32, "[1,[2,", "]]"), '"]"']).replace(",]", ",3]") + "]",
    "a tower among many": f"[{','.join(['[[]]'] * 40)},{_nest(64)}]",
    "five million": _nest(5_000_000),
    "never closed": "[" * 5_000_000,
    "many towers": f"[{','.join([_nest(63)] * 20_000)},{_nest(64)}]",
    "behind escapes": '["\\\\","\\"[",' + _nest(64) + "]",
}


@pytest.mark.parametrize("name", _DEEP)
def test_depth_is_bounded_before_a_decoder_recurses(name: str) -> None:
    deep = _DEEP[name]
    started = perf_counter()
    with pytest.raises(DecodeError, match=_TOO_DEEP):
        loads(deep.encode())
    assert perf_counter() - started < 1


@pytest.mark.parametrize("name", _DEEP)
@pytest.mark.parametrize("place", ["a header", "an unknown field", "the body"])
def test_depth_is_bounded_everywhere_in_a_message(name: str, place: str) -> None:
    envelope = json.loads(_ENVELOPES[0])
    deep = _DEEP[name]
    if place == "the body":
        envelope["body"] = base64.b64encode(f"[[{deep}], {{}}, {{}}]".encode()).decode()
        raw = json.dumps(envelope).encode()
    else:
        (envelope["headers"] if place == "a header" else envelope)["unknown"] = "HERE"
        raw = json.dumps(envelope).replace('"HERE"', deep).encode()
    with pytest.raises(DecodeError, match=_TOO_DEEP):
        decode_task(raw)


@pytest.mark.parametrize(
    "text",
    [
        _nest(64),
        f"[{','.join(['[{}]'] * 1000)}]",
        f"[{','.join([_nest(63)] * 100)}]",
        json.dumps(["[" * 1000, '"' * 100 + "[" * 100, "\\" * 99 + "{" * 99]),
        json.dumps({'"[{': ["]" * 500, {"\\": '\\"['}]}),
    ],
)
def test_what_is_not_too_deep_passes(text: str) -> None:
    assert loads(text.encode()) == json.loads(text)


@settings(max_examples=100, deadline=None)
@given(text=st.text('[]{}",\\a', max_size=40), depth=st.integers(1, 4))
def test_depth_is_told_exactly(text: str, depth: int) -> None:
    too_deep = json_nests_deeper(text.encode(), depth)
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert too_deep is (_depth_of(value) > depth)


def _depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth_of, value), default=0)
    return 0


def test_depth_of_msgpack_is_bounded() -> None:
    accept = ["msgpack"]
    for levels in (63, 64, 900, 100_000):
        body = b"\x93" + b"\x91" * levels + b"\xc0" + b"\x80\xc0"
        wire = WireMessage(body, {"task": "t", "id": "i"}, content_type="application/x-msgpack")
        if levels == 63:
            assert decode_task(wire, accept=accept).id == "i"
            continue
        with pytest.raises(DecodeError):
            decode_task(wire, accept=accept)


def test_depth_of_msgpack_keys_is_bounded() -> None:
    body = b"\x93\x91\x81" + b"\x91" * 70 + b"\xc0" + b"\x01" + b"\x80\xc0"
    wire = WireMessage(body, {"task": "t", "id": "i"}, content_type="application/x-msgpack")
    with pytest.raises(DecodeError):
        decode_task(wire, accept=["msgpack"])


def test_a_record_of_msgpack_is_bounded_as_well() -> None:
    with pytest.raises(DecodeError, match="too large to decode: RecursionError"):
        decode_result(b"\x86" + b"\x91" * 100_000, accept=["msgpack"])


def _depth_of_the_stack() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_deep_in_the_stack_it_is_a_decode_error_still() -> None:
    envelope = json.loads(_ENVELOPES[0])
    envelope["headers"]["unknown"] = json.loads(_nest(60))
    envelope["body"] = base64.b64encode(f"[[{_nest(60)}], {{}}, {{}}]".encode()).decode()
    raw = json.dumps(envelope).encode()
    limit, depth = sys.getrecursionlimit(), _depth_of_the_stack()
    try:
        for margin in range(25, 110, 3):
            sys.setrecursionlimit(depth + margin)
            for decode in (decode_task, decode_envelope, loads):
                with contextlib.suppress(DecodeError):
                    decode(raw)
    finally:
        sys.setrecursionlimit(limit)


# -- size ----------------------------------------------------------------------------------------------------


def test_size_is_bounded_before_anything_is_decoded() -> None:
    limits = Limits(max_message_bytes=100)
    for decode in (decode_task, decode_envelope, decode_result, loads):
        with pytest.raises(DecodeError, match="101 bytes"):
            decode(b"[" * 101, limits=limits)
    with pytest.raises(DecodeError, match="101 bytes"):
        decode_task(WireMessage(b"[" * 101, {"task": "t", "id": "i"}), limits=limits)


_MANY = {
    "arrays": b"[" + b"[]," * 1000 + b"0]",
    "objects": b"[" + b'{"a":1},' * 1000 + b"0]",
    "never closed": b"[" + b"[1]," * 1000,
    "beside brackets in strings": b"[" + b'"[",{},' * 1000 + b"0]",
}


@pytest.mark.parametrize("name", _MANY)
@pytest.mark.parametrize("place", ["alone", "a header", "the body"])
def test_the_number_of_arrays_and_objects_is_bounded(name: str, place: str) -> None:
    many = _MANY[name]
    if place == "a header":
        envelope = json.loads(_ENVELOPES[0])
        envelope["headers"]["unknown"] = "HERE"
        raw = json.dumps(envelope).encode().replace(b'"HERE"', many)
    else:
        raw = b"[" + many + b", {}, {}]"
    wire = WireMessage(raw, {"task": "t", "id": "i"})
    decode = {"alone": lambda: loads(raw, limits=limits), "a header": lambda: decode_task(raw, limits=limits)}.get(
        place, lambda: decode_task(wire, limits=limits)
    )
    limits = Limits(max_containers=1000)
    with pytest.raises(DecodeError, match="more than 1000 arrays and objects"):
        decode()


def test_brackets_in_strings_do_not_count() -> None:
    text = json.dumps([["[{" * 2000, '\\"[' * 500], *[[]] * 98])
    assert loads(text.encode(), limits=Limits(max_containers=100)) == json.loads(text)
    with pytest.raises(DecodeError):
        loads(text.encode(), limits=Limits(max_containers=99))


def test_what_could_not_be_decoded_again_is_not_encoded() -> None:
    assert len(loads(dumps([[]] * 499_999))) == 499_999
    with pytest.raises(EncodeError, match="more than 500000 lists and dicts"):
        dumps([[]] * 500_000)


@pytest.mark.parametrize("count", [256, 257, 5000])
def test_the_number_of_headers_is_bounded(count: int) -> None:
    headers = {"task": "t", "id": "i"} | {f"h{number}": number for number in range(count - 2)}
    wire = WireMessage(b"[[], {}, {}]", headers)
    envelope = encode_envelope(wire, routing_key="celery", delivery_tag="tag")
    for content in (wire, envelope):
        if count == 256:
            assert decode_task(content).id == "i"
            continue
        with pytest.raises(DecodeError, match=f"{count} headers are more than the 256 allowed"):
            decode_task(content)


def test_the_number_of_links_is_bounded() -> None:
    for links in ("callbacks", "errbacks", "chain"):
        body = json.dumps([[], {}, {links: [{}] * 4}]).encode()
        with pytest.raises(DecodeError, match=f"4 {links} are more than the 3 allowed"):
            decode_task(WireMessage(body, {"task": "t", "id": "i"}), limits=Limits(max_links=3))


def test_memory_stays_flat_under_a_flood_of_broken_messages() -> None:
    broken = [_edit(raw, [(at / 7, b"\x00{", 3)]) for raw in _ENVELOPES for at in range(7)] * 3

    def memory_after_a_flood() -> int:
        for raw in broken:
            _check(lambda raw=raw: decode_task(raw))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    memory_after_a_flood()
    tracemalloc.start()
    try:
        first = memory_after_a_flood()
        second = memory_after_a_flood()
    finally:
        tracemalloc.stop()
    assert second - first < 300 * len(broken)  # each is about a kilobyte
