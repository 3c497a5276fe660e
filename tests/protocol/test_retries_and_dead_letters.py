"""What follows a message that did not succeed: its next attempt, or its letter."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import golden
from asyncq.errors import DecodeError, WorkerLostError
from asyncq.protocol import (
    DeadLetter,
    Properties,
    WireMessage,
    custom_headers,
    dead_letter,
    decode_envelope,
    decode_task,
    describe_exception,
    encode_envelope,
    loads,
    lost_of,
    read_dead_letter,
    replay_of,
    rescheduled,
    retry_of,
)

_ETA = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


# -- a loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["task_default", "task_gzip", "task_headers", "task_countdown"])
def test_what_is_lost_is_the_message_as_it_came_and_says_of_what(name: str) -> None:
    [raw] = golden.redis_envelopes(name)
    before, described = decode_envelope(raw), describe_exception(WorkerLostError("gone"))

    after = lost_of(raw, described)

    message = decode_task(after)
    assert message.lost is not None
    assert loads(message.lost.encode()) == described
    # Whoever doesn't look at that finds it expired, and not to be waited for.
    assert (message.expires, message.eta) == (datetime.fromtimestamp(0, UTC), None)
    expected = decode_task(raw)
    # A broker would drop it at its expiry.
    expected.properties = replace(expected.properties, expiration=None)
    assert replace(message, lost=None, expires=expected.expires, eta=expected.eta) == expected
    assert after.body == before.body


def test_what_follows_a_lost_message_says_nothing_of_the_loss() -> None:
    [raw] = golden.redis_envelopes("task_default")
    lost = lost_of(raw, describe_exception(WorkerLostError("gone")))

    assert decode_task(retry_of(lost, decode_task(lost), eta=None, retries=1)).lost is None


# -- the next attempt ----------------------------------------------------------------------------------------


def test_a_retry_is_the_message_that_celery_publishes() -> None:
    theirs = golden.amqp_message(golden.load("amqp", "worker-retry"))
    first = replace(theirs, headers={**theirs.headers, "retries": 0, "eta": None, "parent_id": None})
    message = decode_task(first)

    ours = retry_of(first, message, eta=datetime.fromisoformat(theirs.headers["eta"]), retries=1)

    assert ours.headers == theirs.headers
    assert list(ours.headers) == list(theirs.headers)
    # RabbitMQ would drop the message at its expiry, before anybody could record it: the header says it, too.
    assert ours.properties == replace(theirs.properties, expiration=None)
    assert (ours.body, ours.content_type, ours.content_encoding) == (theirs.body, "application/json", "utf-8")


@pytest.mark.parametrize("name", ["task_default", "task_gzip", "task_headers", "task_priority_9", "task_pickle"])
def test_a_retry_keeps_the_bodys_bytes_and_all_that_it_does_not_know(name: str) -> None:
    [raw] = golden.redis_envelopes(name)
    message = decode_task(raw, accept=["json", "pickle"])
    before = decode_envelope(raw)

    after = retry_of(raw, message, eta=_ETA, retries=3)

    changed = {"retries": 3, "eta": "2030-01-02T03:04:05+00:00", "parent_id": message.id}
    assert after == replace(before, headers={**before.headers, **changed})
    again = decode_task(
        encode_envelope(after, routing_key="celery", delivery_tag="t"),
        accept=["json", "pickle"],
    )
    assert again == replace(message, retries=3, eta=_ETA, parent_id=message.id)


def test_a_retry_without_a_countdown_has_no_eta_and_keeps_its_parent() -> None:
    headers = {"task": "t", "id": "i", "eta": "2030-01-01T00:00:00Z", "parent_id": "p", "expires": "2031-01-02"}
    wire = WireMessage(b"[[], {}, {}]", headers, Properties(expiration="5000"))
    after = retry_of(wire, decode_task(wire), eta=None, retries=1)
    assert after.headers == {**headers, "eta": None, "retries": 1}  # expires stays the text that it was
    assert after.properties.expiration is None


def test_a_retry_tells_nothing_of_the_old_messages_way() -> None:
    way = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-last-death-reason": "expired", "redelivered": True}
    ours = {"asyncq-dead": {}, "asyncq-unknown": {"looks": 3, "waited": 36}}
    wire = WireMessage(b"[[], {}, {}]", {"task": "t", "id": "i", "x-mine": 1, **ours, **way})
    after = retry_of(wire, decode_task(wire), eta=None, retries=1)
    assert custom_headers(after) == {"x-mine": 1}
    assert not {*way, *ours} & set(after.headers)
    assert wire.headers["redelivered"] is True  # the old message is untouched


@pytest.mark.parametrize("name", [name for name in golden.names("amqp") if name.startswith("protocol1")])
def test_a_retry_of_protocol_1_is_of_protocol_2(name: str) -> None:
    wire = golden.amqp_message(golden.load("amqp", name))
    wire.headers["x-mine"] = 1
    message = decode_task(wire)

    after = retry_of(wire, message, eta=_ETA, retries=1)

    again = decode_task(after)
    assert again == replace(
        message,
        protocol=2,
        retries=1,
        eta=_ETA,
        parent_id=message.id,
        root_id=message.id,
        argsrepr=again.argsrepr,
        kwargsrepr=again.kwargsrepr,
        properties=replace(message.properties, expiration=None),
    )
    assert custom_headers(after) == {"x-mine": 1}


def test_a_retry_of_something_else_is_a_decode_error() -> None:
    [raw] = golden.redis_envelopes("task_default")
    with pytest.raises(DecodeError):
        retry_of(raw[:100], decode_task(raw), eta=None, retries=1)


# -- the same attempt at another time ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["task_default", "task_countdown", "task_gzip", "task_pickle", "task_headers"])
def test_what_is_rescheduled_is_the_same_message_with_another_eta(name: str) -> None:
    [raw] = golden.redis_envelopes(name)
    message = decode_task(raw, accept=["json", "pickle"])
    before = decode_envelope(raw)

    after = rescheduled(raw, message, eta=_ETA)

    assert after == replace(before, headers={**before.headers, "eta": "2030-01-02T03:04:05+00:00"})
    assert rescheduled(before, message, eta=_ETA) == after


@pytest.mark.parametrize("name", [name for name in golden.names("amqp") if name.startswith("protocol1")])
def test_what_is_rescheduled_of_protocol_1_is_of_protocol_2_and_the_same_attempt(name: str) -> None:
    wire = golden.amqp_message(golden.load("amqp", name))
    message = decode_task(wire)

    again = decode_task(rescheduled(wire, message, eta=_ETA))

    assert (again.task, again.id, again.args, again.kwargs) == (message.task, message.id, message.args, message.kwargs)
    assert (again.protocol, again.eta, again.retries, again.parent_id) == (2, _ETA, message.retries, message.parent_id)


# -- the letter ----------------------------------------------------------------------------------------------

_NOTICE = {"reason": "no such task", "time": 1795254336.5, "attempts": 2, "queue": "celery"}


def _letter(content: bytes | WireMessage) -> WireMessage:
    return dead_letter(content, queue="celery", reason="no such task", at=1795254336.5, attempts=2)


@pytest.mark.parametrize("name", ["task_default", "task_pickle", "task_gzip", "restored_after_shutdown"])
def test_a_letter_is_the_message_as_it_came_and_one_header_more(name: str) -> None:
    [raw] = golden.redis_envelopes(name)
    before = decode_envelope(raw)
    for content in (raw, before):
        letter = _letter(content)
        assert letter == replace(before, headers={**before.headers, "asyncq-dead": _NOTICE})
        assert "asyncq-dead" not in before.headers


def test_a_letter_replayed_is_a_task_again_and_dies_with_the_latest_reason() -> None:
    [raw] = golden.redis_envelopes("task_default")
    stored = encode_envelope(_letter(raw), routing_key="celery.dead", delivery_tag="t")
    assert decode_task(stored) == decode_task(raw)
    assert custom_headers(stored) == {}
    again = dead_letter(stored, queue="celery", reason="still none", at=2.0, attempts=3)
    assert again.headers["asyncq-dead"] == {"reason": "still none", "time": 2.0, "attempts": 3, "queue": "celery"}


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=50))
def test_what_is_no_envelope_is_kept_byte_for_byte(content: bytes) -> None:
    letter = _letter(content)
    assert letter.body == content
    assert (letter.content_type, letter.content_encoding) == ("application/data", "binary")
    assert letter.headers == {"asyncq-dead": {**_NOTICE, "raw": True}}
    stored = json.loads(encode_envelope(letter, routing_key="celery.dead", delivery_tag="t"))
    assert stored["properties"]["body_encoding"] == "base64"
    assert decode_envelope(json.dumps(stored).encode()).body == content


@pytest.mark.parametrize("content", [b"[" * 10_000_000, b'{"body": "' + b"x" * (17 * 1024 * 1024) + b'"}'])
def test_what_is_beyond_the_limits_finds_its_place_as_well(content: bytes) -> None:
    letter = _letter(content)
    assert letter.body == content
    assert len(encode_envelope(letter, routing_key="celery.dead", delivery_tag="t")) > len(content)


def test_a_reason_is_no_novel() -> None:
    letter = dead_letter(b"x", queue="q", reason="r" * 5000, at=0.0, attempts=1)
    assert len(letter.headers["asyncq-dead"]["reason"]) == 1024


# -- another life --------------------------------------------------------------------------------------------


def _stored(letter: WireMessage) -> bytes:
    return encode_envelope(letter, routing_key="celery.dead", delivery_tag="t")


@pytest.mark.parametrize("name", ["task_default", "task_pickle", "task_gzip", "restored_after_shutdown"])
def test_a_letter_can_be_read_again(name: str) -> None:
    [raw] = golden.redis_envelopes(name)
    read = DeadLetter(content=decode_envelope(raw), reason="no such task", time=1795254336.5, attempts=2)
    assert read_dead_letter(_stored(_letter(raw))) == read
    assert read_dead_letter(_letter(raw)) == read


def test_a_replay_counts_anew_and_keeps_the_rest() -> None:
    way = {"redelivered": True, "x-death": [{"count": 1}], "asyncq-unknown": {"looks": 9, "waited": 3600}}
    mine = {"task": "t", "id": "i", "eta": None, "expires": "2031-01-02", "x-mine": [1, None]}
    wire = WireMessage(b"\x80", {**mine, "retries": 3, **way}, Properties(priority=9), "application/x-pickle", "binary")

    again = replay_of(read_dead_letter(_stored(_letter(wire))))

    assert again == replace(wire, headers={**mine, "retries": 0}, properties=Properties(priority=9))


def test_a_replay_without_a_count_gets_none() -> None:
    """Protocol 1 counts in its body, which stays as it came."""
    assert replay_of(DeadLetter(content=WireMessage(b"{}", {}))) == WireMessage(b"{}", {})


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=50))
def test_what_was_no_envelope_is_replayed_byte_for_byte(content: bytes) -> None:
    letter = read_dead_letter(_stored(_letter(content)))
    assert (letter.content, letter.reason) == (content, "no such task")
    assert replay_of(letter) == content


def test_a_message_of_raw_bytes_is_replayed_as_a_message() -> None:
    """It looks like the letter of something that was no envelope, and was one."""
    wire = WireMessage(b"raw", {}, Properties(priority=0), "application/data", "binary")
    assert replay_of(read_dead_letter(_stored(_letter(wire)))) == wire


def test_letters_of_what_was_beyond_the_limits_can_be_read() -> None:
    large = b'{"body": "' + b"x" * (17 * 1024 * 1024) + b'"}'
    assert read_dead_letter(_stored(_letter(large))).content == large
    many = WireMessage(b"", {f"x-{number}": number for number in range(256)}, Properties(priority=0))
    assert read_dead_letter(_stored(_letter(many))).content == many


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'{"body": 1}'])
def test_what_somebody_else_put_among_the_letters_is_one_as_it_stands(content: bytes) -> None:
    assert read_dead_letter(content) == DeadLetter(content=content)
    assert replay_of(read_dead_letter(content)) == content


@pytest.mark.parametrize(
    "notice", [None, 5, "dead", [], {}, {"reason": 1, "time": "x", "attempts": None}, {"time": float("nan")}]
)
def test_a_notice_that_makes_no_sense_says_nothing(notice: object) -> None:
    letter = read_dead_letter(WireMessage(b"", {"asyncq-dead": notice}))
    assert (letter.reason, letter.time, letter.attempts) == (None, None, None)
    assert replay_of(letter) == WireMessage(b"", {})
