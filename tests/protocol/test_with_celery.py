"""asyncq and real Celery read each other's messages and records alike (P3), in memory, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import celery.exceptions
import kombu.exceptions
import kombu.utils.json
import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.backends.base import compress_payload
from celery.worker.request import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from asyncq import errors
from asyncq.protocol import (
    ResultRecord,
    TaskMessage,
    custom_headers,
    decode_result,
    decode_task,
    describe_exception,
    encode_envelope,
    encode_result,
    encode_task,
)
from values import marked, messages, nested, plain_values, same

_few = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _nothing(*args: Any, **kwargs: Any) -> None:
    """The task; nobody runs it."""


class Peer:
    """A Celery app on kombu's in-memory transport, which carries what its Redis transport would."""

    def __init__(self) -> None:
        self.app = Celery("peer", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.app.conf.accept_content = ["json", "msgpack", "yaml"]
        self.task = self.app.task(_nothing, name="t")
        self.connection = self.app.connection_for_write()
        self.channel: Any = self.connection.default_channel

    def sent(self, *args: Any, **options: Any) -> bytes:
        """What Celery puts on Redis for `send_task`."""
        self.app.send_task("t", *args, **options)
        return kombu.utils.json.dumps(self.channel._get("celery")).encode()

    def received(self, envelope: bytes) -> Any:
        """The request that a Celery worker makes of an envelope."""
        message = self.channel.message_to_python(kombu.utils.json.loads(envelope))
        message.accept = {"application/json", "application/x-msgpack", "application/x-yaml"}
        return Request(message, app=self.app, task=self.task, hostname="peer@host")


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.connection.close()
    peer.app.close()


_LINK = {"task": "u", "args": [1], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"countdown": 30},
        {"eta": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "expires": datetime(2031, 1, 2, tzinfo=UTC)},
        {"time_limit": 60, "soft_time_limit": 1.5, "priority": 7, "shadow": "s", "ignore_result": True},
        {"group_id": "g", "group_index": 3, "chord": _LINK, "root_id": "r", "parent_id": "p"},
        {"link": [_LINK], "link_error": [_LINK, _LINK], "chain": [_LINK]},
        {"headers": {"x": 1}, "stamped_headers": ["tenant"], "tenant": "acme"},
        *({"compression": name} for name in ("zlib", "gzip")),
        *({"serializer": name} for name in ("msgpack", "yaml")),
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_what_celery_sends_is_what_asyncq_writes(peer: Peer, options: dict[str, Any]) -> None:
    theirs = peer.sent([1, "a"], {"k": [None]}, task_id="i", **options)
    message = decode_task(theirs, accept=["json", "msgpack", "yaml"])
    assert (message.args, message.kwargs, message.id) == ([1, "a"], {"k": [None]}, "i")

    wire = encode_task(message, headers=custom_headers(theirs))
    tag = json.loads(theirs)["properties"]["delivery_tag"]
    ours = json.loads(encode_envelope(wire, routing_key="celery", delivery_tag=tag))

    expected = json.loads(theirs)
    if "compression" not in options:  # there the inner JSON's blanks make a difference
        assert decode_task(json.dumps(ours).encode(), accept=["json", "msgpack", "yaml"]) == message
        del ours["body"], expected["body"]
    else:
        assert ours.pop("body")
        del expected["body"]
    assert ours == expected
    assert list(ours["headers"]) == list(expected["headers"])
    assert list(ours["properties"]) == list(expected["properties"])


@_few
@given(args=st.lists(nested(plain_values | marked), max_size=3))
def test_celerys_arguments_arrive_here_as_they_arrive_there(peer: Peer, args: list[Any]) -> None:
    envelope = peer.sent(args)
    assert same(decode_task(envelope).args, peer.received(envelope)._args)


@_few
@given(message=messages)
def test_a_celery_worker_takes_what_asyncq_sends(peer: Peer, message: TaskMessage) -> None:
    message = replace(message, task="t", redelivered=False)
    envelope = encode_envelope(encode_task(message), routing_key="celery", delivery_tag="tag")

    request = peer.received(envelope)

    there = request.request_dict
    assert request.id == message.id
    assert same(there["args"], message.args)
    assert same(there["kwargs"], message.kwargs)
    assert (request.eta, request.expires) == (message.eta, message.expires)
    assert list(request.time_limits) == [message.time_limit, message.soft_time_limit]
    assert (request.root_id, request.parent_id) == (message.root_id, message.parent_id)
    assert (request.group, request.group_index) == (message.group, message.group_index)
    assert there["retries"] == message.retries
    assert there["ignore_result"] == message.ignore_result
    assert same(there["stamps"], message.stamps)
    assert (request.reply_to, request.correlation_id) == (
        message.properties.reply_to,
        message.properties.correlation_id,
    )
    embed = request._payload[2]
    assert same(embed["chain"], message.chain)
    assert same(embed["callbacks"], message.callbacks)
    assert same(embed["errbacks"], message.errbacks)
    assert same(embed["chord"], message.chord)


@pytest.mark.parametrize("serializer", ["msgpack", "yaml"])
def test_a_celery_worker_takes_other_serializers(peer: Peer, serializer: str) -> None:
    args = [1, "zwei", 2.5, None, True, b"\xff\x00", [1, {"k": "ü"}]]
    message = TaskMessage(task="t", id="i", args=args, kwargs={"k": []}, serializer=serializer)
    envelope = encode_envelope(encode_task(message), routing_key="celery", delivery_tag="tag")
    assert peer.received(envelope)._args == args
    assert decode_task(envelope, accept=[serializer]).args == args


# -- records -------------------------------------------------------------------------------------------------


@_few
@given(value=nested(plain_values | marked))
def test_a_celery_client_reads_our_results(peer: Peer, value: Any) -> None:
    record = ResultRecord(task_id="i", status="SUCCESS", result=value, children=[], date_done=datetime.now(UTC))
    raw = encode_result(record)
    theirs = peer.app.backend.decode_result(raw)
    assert same(theirs["result"], value)
    assert theirs["date_done"] == record.date_done.isoformat() if record.date_done else None
    assert raw.startswith(b'{"status": "SUCCESS", "result": ')


@_few
@given(value=nested(plain_values | marked))
def test_our_client_reads_celerys_results(peer: Peer, value: Any) -> None:
    backend = peer.app.backend
    raw = backend.encode(dict(backend._get_result_meta(value, "SUCCESS", None, None), task_id="i")).encode()
    record = decode_result(raw)
    assert same(record.result, backend.decode(raw)["result"])
    assert (record.task_id, record.status, record.children) == ("i", "SUCCESS", None)


def test_our_client_reads_celerys_compressed_results(peer: Peer) -> None:
    packed = compress_payload(b'{"status": "STARTED", "task_id": "i"}', "gzip")
    assert decode_result(packed).status == "STARTED"
    raw = encode_result(ResultRecord(task_id="i", status="SUCCESS", result="x" * 500), compression="gzip")
    assert raw.startswith(b"\x00celery-compressed\x00application/x-gzip\x00")
    assert peer.app.backend.decode(raw)["result"] == "x" * 500


@pytest.mark.parametrize(
    ("exc", "theirs"),
    [
        (ValueError("boom", 1), ValueError),
        (errors.NotRegistered("t"), celery.exceptions.NotRegistered),
        (errors.TaskRevokedError("revoked"), celery.exceptions.TaskRevokedError),
        (errors.ChordError("Dependency x raised y"), celery.exceptions.ChordError),
        (errors.MaxRetriesExceededError("Can't retry t"), celery.exceptions.MaxRetriesExceededError),
        (errors.Reject("no", requeue=True), celery.exceptions.Reject),
        (errors.Retry("later", ValueError("x"), countdown=3), celery.exceptions.Retry),
        (errors.Ignore(), celery.exceptions.Ignore),
        (errors.TimeLimitExceeded(3), TimeLimitExceeded),
        (errors.SoftTimeLimitExceeded(), SoftTimeLimitExceeded),
        (errors.WorkerLostError("gone"), WorkerLostError),
        (errors.EncodeError("x"), kombu.exceptions.EncodeError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_celery_client_gets_the_exception_class_that_it_knows(
    peer: Peer, exc: Exception, theirs: type[Exception]
) -> None:
    described = describe_exception(exc)
    raw = encode_result(ResultRecord(task_id="i", status="FAILURE", result=described))
    revived = peer.app.backend.decode_result(raw)["result"]
    assert type(revived) is theirs
    assert decode_result(raw).result == json.loads(json.dumps(described))


def test_an_exception_is_described_as_celery_describes_it(peer: Peer) -> None:
    for exc in (ValueError("boom", 1), KeyError(), OSError(2, "No such file"), ValueError({"a": [1.5, None]})):
        theirs = peer.app.backend.prepare_exception(exc, serializer="json")
        assert describe_exception(exc) == json.loads(json.dumps(theirs))


def test_an_encoding_error_reads_as_celerys(peer: Peer) -> None:
    with pytest.raises(errors.EncodeError) as ours:
        encode_result(ResultRecord(task_id="i", status="SUCCESS", result=object()))
    with pytest.raises(kombu.exceptions.EncodeError) as theirs:
        peer.app.backend.encode(object())
    assert str(ours.value) == str(theirs.value)
