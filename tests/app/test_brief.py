"""What a dead worker leaves to those who clean up after it."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from asyncq import AsyncQ
from asyncq._brief import Brief, brief_of, decode_brief, encode_brief
from asyncq._clock import system_environment
from asyncq._drivers import make_backend, make_broker
from asyncq_brokers.memory import MemoryBroker

#: 1 January 2030, noon, in UTC.
NOON = 1_893_499_200.0


def brief(**settings: Any) -> Brief | None:
    return brief_of("shop", AsyncQ("shop", **settings).settings, now=NOON)


def read(**settings: Any) -> Brief:
    found = decode_brief(encode_brief(brief(**settings)))
    assert found is not None
    return found


def test_drivers_can_be_made_of_it() -> None:
    found = read(
        broker="redis://:s3cret@host:6379/1",
        broker_transport_options={"global_keyprefix": "a."},
        backend="redis://:s3cret@other:6379/2",
        network_timeout=3,
    )
    environment = system_environment()
    assert found.backend is not None
    broker = make_broker(found.broker.config(found, environment))
    backend = make_backend(found.backend.config(found, environment))
    assert (broker.address, backend.address) == ("redis://host:6379/1", "redis://other:6379/2")
    config = found.broker.config(found, environment)
    assert (config.app, config.options, config.timeout) == ("shop", {"global_keyprefix": "a."}, 3.0)
    assert "s3cret" not in repr(found)


def test_replies_are_nothing_that_could_be_written_for_a_dead_worker() -> None:
    assert read(broker="amqp://guest:guest@host//", backend="rpc://").backend is None


def test_it_says_how_results_are_stored() -> None:
    found = read(
        broker="memory://",
        max_deliveries=3,
        result_serializer="msgpack",
        result_compression="zlib",
        result_expires=60,
        result_failure_expires=600,
        timezone="Asia/Kolkata",
    )
    assert found.max_deliveries == 3
    assert (found.result_serializer, found.result_compression) == ("msgpack", "zlib")
    assert (found.result_expires, found.result_failure_expires) == (60.0, 600.0)
    assert found.utc_offset == 5.5 * 3600


def test_an_app_without_results_has_none_there_either() -> None:
    assert read(broker="redis://host").backend is None


def test_constants_of_ssl_pass() -> None:
    found = read(broker="rediss://host", broker_use_ssl={"ssl_cert_reqs": ssl.CERT_NONE})
    assert found.broker.tls == {"ssl_cert_reqs": 0}


def test_a_driver_that_was_made_elsewhere_cannot_be_made_again(caplog: pytest.LogCaptureFixture) -> None:
    assert encode_brief(brief(broker=MemoryBroker)) == b""
    assert "leases" in caplog.text
    assert decode_brief(b"") is None


def test_an_option_that_is_no_json_is_refused_and_never_written_as_text(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context()
    assert encode_brief(brief(broker="redis://host", broker_use_ssl={"context": context})) == b""
    assert "SSLContext" in caplog.text
