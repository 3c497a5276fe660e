"""asyncq's JSON is kombu's: whatever one writes, both read alike."""

from __future__ import annotations

import enum
import json
import math
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

import kombu.utils.json
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import Limits, _json, dumps, loads, register_json_type
from values import same, values

_many = settings(max_examples=100, deadline=None)


@_many
@given(value=values)
def test_every_value_comes_back_as_kombu_brings_it_back(value: Any) -> None:
    theirs = kombu.utils.json.dumps(value).encode()
    expected = kombu.utils.json.loads(theirs)
    assert same(expected, value)
    assert same(loads(theirs), expected)
    assert same(loads(dumps(value)), expected)
    assert same(kombu.utils.json.loads(dumps(value)), expected)


@_many
@given(
    text=st.recursive(
        st.sampled_from(
            ["NaN", "-Infinity", "1e400", "-0", "1E5", "12345678901234567890123", '"\\ud83d"', "tru", "0x1"]
        )
        | st.floats().map(repr)
        | st.text(max_size=5).map(json.dumps),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[ {', '.join(items)} ]")
            | st.lists(inner, max_size=3).map(lambda items: "{" + ",".join(f'"k{len(x)}" :{x}' for x in items) + "}")
        ),
        max_leaves=8,
    )
)
def test_every_text_is_read_as_kombu_reads_it_or_refused_by_both(text: str) -> None:
    try:
        expected = kombu.utils.json.loads(text)
    except ValueError:
        with pytest.raises(DecodeError):
            loads(text.encode())
    else:
        assert same(loads(text.encode()), expected)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


class Reducible:
    def __json__(self) -> object:
        return {"reduced": [Point(1, 2)]}


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), ("datetime", "2030-01-02T03:04:05.000006+00:00")),
        (date(2030, 1, 2), ("date", "2030-01-02")),
        (time(3, 4, 5, 6), ("time", "03:04:05.000006")),
        (Decimal("1.10"), ("decimal", "1.10")),
        (uuid.UUID(int=5), ("uuid", {"hex": "00000000000000000000000000000005"})),
        (b"abc", ("bytes", "abc")),
        (b"\xff\x00\x80", ("base64", "/wCA")),
    ],
)
def test_markers_are_celerys(value: object, encoded: tuple[str, object]) -> None:
    marker = {"__type__": encoded[0], "__value__": encoded[1]}
    assert json.loads(dumps([value])) == [marker]
    assert loads(json.dumps([marker]).encode()) == [value]


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Level.HIGH,
        Point(1, 2),
        OrderedDict(b=1, a=2),
        Reducible(),
        {1: "a", None: "b", False: "c", 1.5: "d"},
    ],
)
def test_odd_types_are_written_as_kombu_writes_them(value: object) -> None:
    assert json.loads(dumps(value)) == json.loads(kombu.utils.json.dumps(value))


def test_what_msgspec_would_quietly_change_is_kept() -> None:
    value = {"nan": math.nan, "inf": [math.inf, -math.inf], "odd": "\udc80", "tuple": (1, {2: None})}
    encoded = dumps(value)
    assert json.loads(encoded)["tuple"] == [1, {"2": None}]
    assert same(json.loads(encoded)["inf"], [math.inf, -math.inf])
    assert math.isnan(json.loads(encoded)["nan"])
    assert json.loads(encoded)["odd"] == "\udc80"


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j, range(3), bytearray(b"x"), memoryview(b"x"), {(1, 2): 3}])
def test_what_has_no_encoding_is_refused(value: object) -> None:
    with pytest.raises(EncodeError):
        dumps([value])


def test_an_integer_that_no_reader_takes_is_refused() -> None:
    assert loads(dumps(10**4299)) == 10**4299
    with pytest.raises(EncodeError):
        dumps(10**4300)
    with pytest.raises(DecodeError):
        loads(b"1" * 4301)


def test_a_failing_encoder_of_the_users_is_an_encode_error() -> None:
    class Broken:
        def __json__(self) -> object:
            raise KeyError("inside")

    with pytest.raises(EncodeError, match="Broken could not be encoded: KeyError") as caught:
        dumps(Broken())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    "marker",
    [
        '{"__type__": "module", "__value__": "os"}',
        '{"__type__": ["datetime"], "__value__": 1}',
        '{"__type__": "datetime", "__value__": 5}',
        '{"__type__": "datetime", "__value__": "tomorrow"}',
        '{"__type__": "date", "__value__": "2030-13-01"}',
        '{"__type__": "time", "__value__": null}',
        '{"__type__": "decimal", "__value__": "one"}',
        '{"__type__": "decimal", "__value__": [0, [1], 2]}',
        '{"__type__": "uuid", "__value__": "12345678123456781234567812345678"}',
        '{"__type__": "uuid", "__value__": {"int": 1.5}}',
        '{"__type__": "uuid", "__value__": {"int": -1}}',
        '{"__type__": "uuid", "__value__": {"bytes": "x", "hex": "y"}}',
        '{"__type__": "bytes", "__value__": "\\udc80"}',
        '{"__type__": "base64", "__value__": "a"}',
    ],
)
def test_a_marker_that_is_none_is_a_decode_error(marker: str) -> None:
    with pytest.raises(DecodeError, match="JSON marker"):
        loads(f"[{marker}]".encode())


def test_a_third_key_makes_it_an_ordinary_object() -> None:
    value = {"__type__": "datetime", "__value__": "x", "more": 1}
    assert loads(dumps(value)) == value


def test_a_users_dict_that_would_be_taken_for_a_marker_is_refused() -> None:
    with pytest.raises(EncodeError, match="decoded again: JSON marker of an unknown type: 'mine'"):
        dumps({"__type__": "mine", "__value__": 1})


class Money(msgspec.Struct, frozen=True):
    cents: int


class Secret(msgspec.Struct, frozen=True):
    text: str


@pytest.fixture
def own_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for table in ("_encoders", "_decoders"):
        monkeypatch.setattr(_json, table, dict(getattr(_json, table)))


@pytest.mark.usefixtures("own_markers")
def test_an_app_may_add_types_of_its_own() -> None:
    register_json_type(Money, "money", lambda money: money.cents, Money)
    register_json_type(Secret, None, lambda secret: secret.text)

    assert json.loads(dumps(Money(5))) == {"__type__": "money", "__value__": 5}
    assert loads(dumps([Money(5), Secret("x")])) == [Money(5), "x"]


@pytest.mark.usefixtures("own_markers")
def test_a_failing_decoder_of_the_users_is_a_decode_error() -> None:
    register_json_type(Money, "money", lambda money: money.cents, lambda cents: Money(cents // 0))
    with pytest.raises(DecodeError, match="'money' with a value that is none: ZeroDivisionError"):
        loads(b'{"__type__": "money", "__value__": 5}')


def test_a_marker_needs_a_decoder_and_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="needs a decoder"):
        register_json_type(Money, "money", lambda money: money.cents)
    with pytest.raises(ValueError, match="Celery's own"):
        register_json_type(Money, "uuid", lambda money: money.cents, Money)


def test_size_is_bounded() -> None:
    with pytest.raises(DecodeError, match="11 bytes are more than the 10 allowed"):
        loads(b'"123456789"', limits=Limits(max_message_bytes=10))
