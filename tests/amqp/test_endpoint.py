"""URLs as Celery reads them."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.amqp import Endpoint, parse_endpoints, read_broker_config


def parse(url: str, tls: Any = None) -> Endpoint:
    (endpoint,) = parse_endpoints(url, tls, "asyncq:tests")
    return endpoint


def configured(url: str, **options: Any) -> list[Endpoint]:
    return read_broker_config(DriverConfig(url=url, app="tests", environment=system_environment(), options=options))


@pytest.mark.parametrize(
    ("url", "host", "port", "vhost", "user", "password"),
    [
        ("amqp://", "localhost", 5672, "/", "guest", "guest"),
        ("amqp://h/", "h", 5672, "/", "guest", "guest"),
        ("amqp://h//", "h", 5672, "/", "guest", "guest"),
        ("pyamqp://u:p@h:1234/shop", "h", 1234, "shop", "u", "p"),
        ("amqp://u%40x:p%2F%3A@h/a%2Fb", "h", 5672, "a/b", "u@x", "p/:"),
        ("amqps://u:p@b-1.mq.eu-west-1.amazonaws.com:5671", "b-1.mq.eu-west-1.amazonaws.com", 5671, "/", "u", "p"),
        ("amqps://h", "h", 5671, "/", "guest", "guest"),
        ("amqp://[::1]:5673/", "::1", 5673, "/", "guest", "guest"),
        ("amqp://u:@h", "h", 5672, "/", "u", ""),
        ("amqp://u@h", "h", 5672, "/", "u", "guest"),
    ],
)
def test_parts_of_a_url(url: str, host: str, port: int, vhost: str, user: str, password: str) -> None:
    found = parse(url)
    assert (found.host, found.port, found.vhost) == (host, port, vhost)
    assert (found.username, found.password) == (user, password)


def test_a_list_is_for_failover() -> None:
    found = parse_endpoints("amqp://a;amqp://u:p@b:1/v; amqp://c", None, "x")
    assert [(one.host, one.port, one.vhost) for one in found] == [("a", 5672, "/"), ("b", 1, "v"), ("c", 5672, "/")]


def test_nobody_sees_a_password() -> None:
    found = parse("amqps://user:canary@h/v?heartbeat=5")
    assert found.address == "amqps://h:5671/v"
    assert "canary" not in repr(found)
    for broken in ("amqp://user:ca/na#ry@h", "amqp://u:canary@h:x/", "http://u:canary@h"):
        with pytest.raises(ConfigurationError) as refused:
            parse(broken)
        assert "canary" not in str(refused.value)


def test_tls_verifies_unless_told_otherwise() -> None:
    strict = parse("amqps://h").tls
    assert strict is not None
    assert (strict.check_hostname, strict.verify_mode) == (True, ssl.CERT_REQUIRED)
    named = parse("amqp://h", {"server_hostname": "broker.example"})
    assert named.tls is not None
    assert named.server_hostname == "broker.example"
    lax = parse("amqps://h?ssl_check_hostname=false").tls
    assert lax is not None
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_REQUIRED)
    off = parse("amqp://h", {"cert_reqs": ssl.CERT_NONE}).tls
    assert off is not None
    assert off.verify_mode is ssl.CERT_NONE
    assert parse("amqp://h", tls=False).tls is None


def test_tls_as_celery_lets_it_be_said() -> None:
    lax = parse("amqp://h", {"context": {"check_hostname": False}}).tls
    assert lax is not None
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_REQUIRED)
    for protocol in (ssl.PROTOCOL_TLSv1_2, "PROTOCOL_TLSv1_2", int(ssl.PROTOCOL_TLSv1_2)):
        old = parse("amqp://h", {"ssl_version": protocol}).tls
        assert old is not None
        assert (old.minimum_version, old.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    usual = parse("amqp://h", {"ssl_version": ssl.PROTOCOL_TLS_CLIENT}).tls
    assert usual is not None
    assert usual.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED


@pytest.mark.parametrize(
    ("tls", "named"),
    [
        ({"no_such": 1}, "no_such"),
        ({"cert_reqs": "perhaps"}, "cert_reqs"),
        ({"ca_certs": "/no/such/file"}, "ca_certs=/no/such/file"),
        ({"certfile": "/no/a", "keyfile": "/no/b"}, "certfile=/no/a, keyfile=/no/b"),
        ({"context": {"purpose": 1}}, "purpose"),
        ({"ssl_version": "PROTOCOL_SSLv3"}, "ssl_version"),
    ],
)
def test_wrong_tls_arguments(tls: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse("amqp://h", tls)


def test_each_url_of_a_list_has_options_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    found = configured("amqp://a?heartbeat=7&confirm_publish=1;amqp://b?heartbeat=9&confirm_publish=1")
    assert [one.heartbeat for one in found] == [7, 9]
    assert caplog.text.count("'confirm_publish'") == 1
    with pytest.raises(ConfigurationError, match="no_such"):
        configured("amqp://a;amqp://b?no_such=1")


def test_options_are_honoured_warned_of_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    (found,) = configured("amqp://h?heartbeat=7&login_method=external", confirm_publish=True, client_name="me")
    assert (found.heartbeat, found.login_method, found.client_name) == (7, "EXTERNAL", "me")
    assert "'confirm_publish'] has no effect: asyncq always waits for confirms" in caplog.text
    (plain,) = configured("amqp://h", login_method="AMQPLAIN")
    assert plain.login_method == "PLAIN"
    for wrong in ({"heartbeats": 3}, {"heartbeat": "soon"}, {"login_method": "GSSAPI"}):
        with pytest.raises(ConfigurationError):
            configured("amqp://h", **wrong)
