"""Header tables and properties on the wire: as Celery's own library writes and reads them."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from decimal import Decimal
from struct import pack
from typing import Any

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

import golden
from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import Properties, WireMessage
from asyncq_brokers._clients.amqp import Incoming, decode_content, encode_content_header
from asyncq_brokers._clients.amqp.tables import decode_table, encode_table
from asyncq_brokers.amqp.messages import read, unmarked

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
_TABLES = st.dictionaries(st.text(max_size=20), _VALUES, max_size=6)


@given(_TABLES)
def test_a_table_comes_out_as_it_went_in(table: dict[str, Any]) -> None:
    data = encode_table(table)
    assert decode_table(data, 0) == (table, len(data))


@given(_TABLES)
def test_celerys_library_reads_what_we_write(table: dict[str, Any]) -> None:
    assert loads("F", encode_table(table), 0)[0] == [table]


@given(_TABLES)
def test_we_read_what_celerys_library_writes(table: dict[str, Any]) -> None:
    assert decode_table(dumps("F", [table]), 0)[0] == table


def test_rarer_types() -> None:
    table = {"when": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "price": Decimal("1.10"), "raw": b"\xff"}
    assert decode_table(encode_table(table), 0)[0] == table


@pytest.mark.parametrize("name", golden.names("amqp"))
def test_every_captured_message_survives_the_journey(name: str) -> None:
    message = golden.amqp_message(golden.load("amqp", name))
    assert decode_content(encode_content_header(message), message.body) == message


@pytest.mark.parametrize("name", golden.names("amqp"))
def test_captured_headers_get_celerys_type_letters(name: str) -> None:
    fixture = golden.load("amqp", name)
    for header, letter in fixture.get("header_amqp_types", {}).items():
        if header in fixture["headers"]:
            value = fixture["headers"][header]
            assert encode_table({header: value})[5 + len(header) :][:1].decode() == {"L": "l"}.get(letter, letter)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (Properties(priority=256), "priorities go from 0 to 255"),
        (Properties(correlation_id="x" * 256), "255 bytes"),
    ],
)
def test_what_amqp_has_no_room_for(properties: Properties, told: str) -> None:
    with pytest.raises(EncodeError, match=told):
        encode_content_header(WireMessage(b"", {}, properties))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "a object"),
        (2**63, "beyond 64 bits"),
        (Decimal("NaN"), "no type"),
        (Decimal(2**40), "beyond AMQP's"),
        (float("nan"), "holds nan"),  # RabbitMQ ends the connection
        ([float("-inf")], "holds -inf"),
        (datetime(1960, 1, 1, tzinfo=UTC), "beyond AMQP's dates"),
        ({1: 2}, "name must be text, not 1"),
        ({"\ud800": 2}, "can't be written"),
        ({"x" * 256: 2}, "255 bytes"),
    ],
)
def test_what_amqp_has_no_type_for(value: object, told: str) -> None:
    with pytest.raises(EncodeError, match=told):
        encode_table({"header": value})


def test_deep_tables_are_refused_both_ways() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"x": deep}
    with pytest.raises(EncodeError, match="deep"):
        encode_table(deep)
    theirs = b"\x00\x00\x00\x00"
    for _ in range(100):
        theirs = (len(theirs) + 3).to_bytes(4) + b"\x01xF" + theirs
    with pytest.raises(DecodeError, match="deep"):
        decode_table(theirs, 0)


def test_what_is_no_utf8_survives_the_journey() -> None:
    """Headers, names and properties of somebody else's: a dead letter has to be what came."""
    odd = b"\x00\x00\x00\x04\x02\xe9\xffV"
    assert encode_table(decode_table(odd, 0)[0]) == odd
    message = WireMessage(b"", {}, Properties(correlation_id="\udce9"))
    assert decode_content(encode_content_header(message), b"") == message


def test_a_date_in_milliseconds_is_a_number() -> None:
    """As clients in Java and .NET write it. It is beyond Python's calendar."""
    milliseconds = 1_790_000_000_000
    table = b"\x01tT" + milliseconds.to_bytes(8)
    assert decode_table(len(table).to_bytes(4) + table, 0)[0] == {"t": milliseconds}


def test_headers_that_nobody_can_read_are_kept() -> None:
    """What is buried must be there to be looked at."""
    table = bytes(4)
    for _ in range(100):
        table = (len(table) + 3).to_bytes(4) + b"\x01xF" + table
    header = pack(">HHQH", 60, 0, 4, 1 << 13) + table
    message, *_ = read(Incoming("", 1, False, "", "q", header, b"body"))
    assert message.content_type == "application/data"
    assert b64decode(message.headers["asyncq-unreadable"]) == header
    assert message.body == b"body"
    assert decode_content(encode_content_header(message), b"body") == message
    assert unmarked(message).headers == {}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_decode_error(data: bytes) -> None:
    try:
        table, _ = decode_table(len(data).to_bytes(4) + data, 0)
    except DecodeError:
        return
    json.dumps(table, default=repr, ensure_ascii=True)
