"""Bodies that are no JSON: msgpack, YAML, pickle, raw."""

from __future__ import annotations

import builtins
import math
import pickle
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import kombu.serialization
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import Limits, TaskMessage, WireMessage, decode_task, encode_task
from values import nested, same

_TYPES = {
    "msgpack": "application/x-msgpack",
    "yaml": "application/x-yaml",
    "pickle": "application/x-python-serialize",
    "raw": "application/data",
}


def _decode(body: bytes, serializer: str, **how: Any) -> TaskMessage:
    wire = WireMessage(body, {"task": "t", "id": "i"}, content_type=_TYPES[serializer])
    return decode_task(wire, accept=[serializer], **how)


def _encode(serializer: str, *args: object) -> WireMessage:
    return encode_task(TaskMessage(task="t", id="i", args=list(args), serializer=serializer))


# -- msgpack -------------------------------------------------------------------------------------------------

_msgpack_values = nested(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary()
)


@settings(max_examples=100, deadline=None)
@given(args=st.lists(_msgpack_values, max_size=3))
def test_msgpack_is_kombus(args: list[Any]) -> None:
    wire = _encode("msgpack", *args)
    assert (wire.content_type, wire.content_encoding) == ("application/x-msgpack", "binary")
    theirs = kombu.serialization.loads(wire.body, wire.content_type, wire.content_encoding, accept=[wire.content_type])
    assert same(theirs[0], args)
    _, _, body = kombu.serialization.dumps([args, {}, {}], serializer="msgpack")
    assert same(_decode(body, "msgpack").args, args)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2030, 1, 2, tzinfo=UTC), "msgpack can't carry a datetime"),
        ({1: 2}, "keys that are no text"),
        ({"a": [{1, 2}]}, "a set"),
        (2**64, "ints"),
        ("\udc80", "surrogates"),
    ],
)
def test_what_msgpack_has_no_type_for_is_refused(value: object, reason: str) -> None:
    with pytest.raises(EncodeError) as caught:
        _encode("msgpack", value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (b"\xdd\xff\xff\xff\xff", "no msgpack"),
        (b"\xa1\xff", "no msgpack"),
        (b"\x93\x90\x81\x01\x02\xc0", "the keys of kwargs must be text"),
        (b"\x93\x91\xd4\x05\x01\x80\xc0", "msgpack extension of type 5"),
        (msgpack.packb([[], [], {}]), "kwargs must be an object"),
    ],
)
def test_broken_msgpack_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        _decode(body, "msgpack")
    assert reason in str(caught.value)


# -- YAML ----------------------------------------------------------------------------------------------------


def test_yaml_is_kombus() -> None:
    args = [1, "zwei", 2.5, math.inf, None, True, "ü\n", b"\xff", date(2030, 1, 2), {"a": [[]]}]
    wire = _encode("yaml", *args)
    assert kombu.serialization.loads(wire.body, wire.content_type, "utf-8", accept=[wire.content_type])[0] == args
    _, _, body = kombu.serialization.dumps([args, {}, {}], serializer="yaml")
    assert _decode(str(body).encode(), "yaml").args == args


def test_a_value_that_occurs_twice_is_an_alias_in_yaml() -> None:
    twice = [1, 2]
    wire = _encode("yaml", twice, twice)
    assert b"*id001" in wire.body
    assert decode_task(wire, accept=["yaml"]).args == [twice, twice]


def test_what_yaml_has_no_type_for_is_refused() -> None:
    with pytest.raises(EncodeError, match="cannot represent an object"):
        _encode("yaml", object())


def _laughs(levels: int) -> str:
    lines = ["- &l0 [ha, ha]"]
    lines += [f"- &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2", "no YAML"),
        ("!!python/object/apply:os.system [true]", "no YAML"),
        ("!!timestamp x", "no YAML"),
        ('!!int ""', "no YAML"),
        ("!!float abc", "no YAML"),
        ("{[]: 1}", "no YAML"),
        ("\x00", "no YAML"),
        (_laughs(9), "its aliases explode"),
        ("&a [*a]", "nested deeper"),
        ("[" * 100 + "]" * 100, "nested deeper"),
        ("[" * 50_000, "nested deeper"),
        ("- " * 50_000, "nested deeper"),
        ("{a: " * 50_000, "nested deeper"),
        ("1" + ":1" * 200_000, "number too long"),
        ("9" * 5000, "number too long"),
        ("- &a {x: 1}\n- {<<: *a}", "merge keys are not read"),
        ("{1: 2}", "no task's message|must be"),
        ("[[], {1: 2}, {}]", "the keys of kwargs must be text"),
    ],
    ids=range(18),
)
def test_hostile_yaml_is_refused_and_soon(text: str, reason: str) -> None:
    started = perf_counter()
    with pytest.raises(DecodeError, match=reason):
        _decode(text.encode(), "yaml")
    assert perf_counter() - started < 5


def test_a_missing_pyyaml_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncq.protocol import _yaml

    monkeypatch.setitem(sys.modules, "yaml", None)
    _yaml._library.cache_clear()
    try:
        with pytest.raises(DecodeError, match="PyYAML, which is not installed"):
            _decode(b"[[], {}, {}]", "yaml")
        with pytest.raises(EncodeError, match="needs PyYAML"):
            _encode("yaml")
    finally:
        _yaml._library.cache_clear()


# -- pickle --------------------------------------------------------------------------------------------------


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return builtins.open, (str(self.path), "w")


@pytest.mark.parametrize("accept", [("json",), (), ("json", "msgpack", "yaml"), ("raw", "application/data")])
@pytest.mark.parametrize(
    "content_type", [_TYPES["pickle"], "application/x-python-serialize; charset=x", "APPLICATION/X-PYTHON-SERIALIZE"]
)
def test_a_pickle_is_never_read_unless_the_app_accepts_it(
    tmp_path: Path, accept: tuple[str, ...], content_type: str
) -> None:
    trap = tmp_path / "trap"
    body = pickle.dumps([[_Trap(trap)], {}, {}])
    with pytest.raises(DecodeError, match=r"\(pickle\) is not accepted"):
        decode_task(WireMessage(body, {"task": "t", "id": "i"}, content_type=content_type), accept=accept)
    for other in ("application/json", "application/x-yaml", "application/x-msgpack", "application/data"):
        with pytest.raises(DecodeError):
            decode_task(
                WireMessage(body, {"task": "t", "id": "i"}, content_type=other), accept=["json", "yaml", "msgpack"]
            )
    assert not trap.exists()


def test_a_pickle_is_read_when_the_app_accepts_it_and_never_written() -> None:
    body = pickle.dumps(([{1, 2}], {"k": Limits()}, None))
    assert _decode(body, "pickle").args == [{1, 2}]
    with pytest.raises(DecodeError, match="no pickle"):
        _decode(b"nonsense", "pickle")
    with pytest.raises(EncodeError, match="asyncq writes no pickle"):
        _encode("pickle", 1)


# -- raw -----------------------------------------------------------------------------------------------------


def test_raw_bytes_carry_no_call() -> None:
    with pytest.raises(DecodeError, match=r"must be \[args, kwargs, embed\], not bytes"):
        _decode(b"\x00\x01", "raw")
    with pytest.raises(EncodeError, match="raw takes bytes, not list"):
        _encode("raw", b"x")
