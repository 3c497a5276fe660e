"""Parts of chords and saved groups, captured and our own."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import KeyValueStoreBackend
from hypothesis import given
from hypothesis import strategies as st

import golden
from asyncq.errors import DecodeError, EncodeError
from asyncq.protocol import (
    Limits,
    Part,
    ResultRecord,
    SavedGroup,
    decode_group,
    decode_part,
    encode_group,
    encode_part,
    encode_result,
)
from values import same

_FAILURE = {"exc_type": "ValueError", "exc_message": ["boom", 1], "exc_module": "builtins"}


def _members(name: str) -> list[bytes]:
    """The parts in a capture, whether they lay in a sorted set or in a list."""
    keys = golden.load("results", name)["redis_keys"]
    (stored,) = (stored["value"] for key, stored in keys.items() if key.endswith(".j"))
    return [(each if isinstance(each, str) else each[0]).encode() for each in stored]


def _celery(serializer: str, compression: str | None = None) -> Any:  # its types say bytes where it gives text
    """What a Celery worker encodes with."""
    app = Celery("parts", set_as_current=False)
    app.conf.update(result_serializer=serializer, result_accept_content=[serializer])
    backend = KeyValueStoreBackend(app=app)
    backend.compression = compression  # the setting is for backends that say they can
    return backend


@pytest.mark.parametrize("name", ["chord-intermediate-keys", "chord-unordered", "chord-header-failure"])
def test_captured_parts_are_read_and_written_byte_for_byte(name: str) -> None:
    for raw in _members(name):
        _, task_id, state, result = json.loads(raw)

        assert decode_part(raw) == Part(task_id=task_id, state=state, result=result)
        assert encode_part(task_id, state, result) == raw


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(_PLAIN)
def test_plain_values_are_written_as_celery_writes_them(value: Any) -> None:
    raw = encode_part("t-1", "SUCCESS", value)

    encoded = _celery("json").encode([1, "t-1", "SUCCESS", value])
    assert raw == encoded.encode()
    assert same(decode_part(raw).result, value)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_celery_reads_what_is_written_and_the_other_way_round(serializer: str, compression: str | None) -> None:
    celery = _celery(serializer, compression)
    accept = (serializer,)

    ours = encode_part("t-1", "FAILURE", _FAILURE, serializer=serializer, compression=compression)
    assert celery.decode(ours) == [1, "t-1", "FAILURE", _FAILURE]
    theirs = celery.encode([1, "t-1", "FAILURE", _FAILURE])
    theirs = theirs if isinstance(theirs, bytes) else theirs.encode()
    assert decode_part(theirs, accept=accept) == Part(task_id="t-1", state="FAILURE", result=_FAILURE)
    group = SavedGroup(group_id="g", members=["a", SavedGroup(group_id="inner", members=["b"])])
    stored = encode_group(group, serializer=serializer, compression=compression)
    assert celery.decode(stored) == {
        "result": [["g", None], [[["a", None], None], [["inner", None], [[["b", None], None]]]]]
    }
    assert decode_group(stored, accept=accept) == group


def test_a_record_stands_for_a_part() -> None:
    raw = encode_result(ResultRecord(task_id="t-1", status="REVOKED", result=_FAILURE))

    assert decode_part(raw) == Part(task_id="t-1", state="REVOKED", result=_FAILURE)


def test_a_value_without_an_encoding_is_refused() -> None:
    with pytest.raises(EncodeError):
        encode_part("t-1", "SUCCESS", object())
    with pytest.raises(EncodeError, match="100 are allowed"):
        encode_part("t-1", "SUCCESS", "x" * 100, limits=Limits(max_message_bytes=100))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'[1, "t-1", "SUCCESS"]',
        b'[1, 2, "SUCCESS", 4]',
        b'[1, "t-1", null, 4]',
        b"{}",
        b'"text"',
        b"[" * 100_000,
        b"\x80\x04}.",
        b"\x94\x01",
        b"- 1",
        b"\x00celery-compressed\x00application/x-gzip\x00no",
    ],
)
def test_whatever_comes_in_is_a_part_or_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_part(raw, accept=("json", "msgpack", "yaml"))
    with pytest.raises(DecodeError):
        decode_group(raw, accept=("json", "msgpack", "yaml"))


@given(st.binary(max_size=200))
def test_bytes_at_random_raise_nothing_else(raw: bytes) -> None:
    for decode in (decode_part, decode_group):
        with suppress(DecodeError):
            decode(raw, accept=("json", "msgpack", "yaml"))


def test_pickles_are_refused_until_they_are_allowed() -> None:
    raw = _celery("pickle").encode([1, "t-1", "SUCCESS", 2])
    assert isinstance(raw, bytes)

    with pytest.raises(DecodeError, match="not accepted"):
        decode_part(raw)
    assert decode_part(raw, accept=("pickle",)).result == 2


# -- saved groups --------------------------------------------------------------------------------------------


def _saved(name: str) -> list[bytes]:
    keys = golden.load("results", name)["redis_keys"]
    return [stored["value"].encode() for key, stored in keys.items() if "taskset" in key and key[-2] != "."]


@pytest.mark.parametrize("name", ["group-saved", "chord-complex", "chord-kv-incr-intermediate"])
def test_captured_groups_are_read(name: str) -> None:
    (raw,) = _saved(name)

    group = decode_group(raw)

    assert group.group_id == json.loads(raw)["result"][0][0]
    assert all(task_id in raw.decode() for task_id in group.task_ids())
    if name != "chord-complex":  # whose inner group says what came before it
        assert encode_group(group) == raw


def test_nested_groups_keep_their_form() -> None:
    (raw,) = _saved("chord-complex")
    group = decode_group(raw)

    assert len(list(group.task_ids())) == 3
    assert group.arrange(iter([0, 12, 22])) == [0, [12, 22]]


def test_members_that_end_long_chains_are_found() -> None:
    """Celery lists all that came before a member, step in step."""
    before: Any = None
    for number in range(150):
        before = [[f"step-{number}", before], None]
    raw = json.dumps({"result": [["g", None], [[["last", before], None]]]}).encode()

    assert decode_group(raw) == SavedGroup(group_id="g", members=["last"])


@pytest.mark.parametrize(
    "document",
    [None, [], {"result": None}, {"result": [["g", None], None]}, {"result": [["g", None], 3]}, {"result": [[], []]}],
)
def test_what_is_no_group_is_a_decode_error(document: object) -> None:
    with pytest.raises(DecodeError):
        decode_group(json.dumps(document).encode())


def test_groups_too_deep_in_each_other_are_a_decode_error() -> None:
    nested: Any = [["leaf", None], None]
    for _ in range(100):
        nested = [["g", None], [nested]]

    with pytest.raises(DecodeError):
        decode_group(json.dumps({"result": nested}).encode())
