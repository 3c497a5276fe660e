"""URLs and transport options, as Celery writes them."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.redis import parse_endpoint, read_backend_config, read_broker_config
from asyncq_brokers.redis import RedisBroker


def config(url: str = "redis://localhost/0", options: Mapping[str, object] | None = None) -> DriverConfig:
    return DriverConfig(url=url, app="my shop", environment=system_environment(), options=options or {})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0, "tls": None}),
        ("redis://queue", {"host": "queue", "port": 6379, "db": 0}),
        ("redis://queue:7000/5", {"host": "queue", "port": 7000, "db": 5}),
        ("redis://queue//5", {"db": 5}),
        ("redis://queue/", {"db": 0}),
        ("redis://queue?db=3", {"db": 3}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000, "db": 1}),
        ("redis://:pw@queue/0", {"username": None, "password": "pw"}),
        ("redis://user:p%40%2F%23w@queue/0", {"username": "user", "password": "p@/#w"}),
        ("redis+socket:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
        ("redis+socket:///run/redis.sock?virtual_host=3", {"path": "/run/redis.sock", "db": 3}),
        ("redis+socket://:pw@/run/redis.sock", {"path": "/run/redis.sock", "password": "pw"}),
    ],
)
def test_a_url_is_read_as_celery_reads_it(url: str, expected: Mapping[str, object]) -> None:
    endpoint = parse_endpoint(url)

    assert {name: getattr(endpoint, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "setting", "expected"),
    [
        ("redis://queue", None, None),
        ("redis://queue", False, None),
        ("rediss://queue", None, {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("redis://queue", True, {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://queue?ssl_cert_reqs=none", None, {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("rediss://queue?ssl_cert_reqs=CERT_NONE", None, {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("redis://queue?ssl_cert_reqs=CERT_REQUIRED", None, {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://queue?ssl_check_hostname=false", None, {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
        (
            "rediss://queue?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            None,
            {
                "ssl_ca_certs": "/ca.pem",
                "ssl_certfile": "/c.pem",
                "ssl_keyfile": "/k.pem",
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
            },
        ),
        (
            "redis://queue",
            {"ssl_cert_reqs": ssl.CERT_OPTIONAL},
            {"ssl_cert_reqs": "optional", "ssl_check_hostname": True},
        ),
        ("rediss://queue", {"ssl_cert_reqs": ssl.CERT_NONE}, {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
    ],
)
def test_tls_verifies_unless_told_otherwise(
    url: str, setting: Mapping[str, Any] | bool | None, expected: Mapping[str, object] | None
) -> None:
    assert parse_endpoint(url, setting).tls == expected


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://queue/five", "database"),
        ("redis://queue/-1", "database"),
        ("redis://queue:port/0", "port"),
        ("redis://a;redis://b", "several"),
        ("http://queue", "scheme"),
        ("redis+socket://", "path"),
        ("redis+socket:///run/redis.sock?ssl_cert_reqs=none", "TLS"),
        ("rediss://queue?ssl_cert_reqs=sometimes", "ssl_cert_reqs"),
        ("rediss://queue?ssl_magic=1", "ssl_magic"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        parse_endpoint(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{}@queue:6379/0",
        "rediss://:{}@queue/0",
        "redis+socket://:{}@/run/redis.sock",
        "redis://user:{}@queue:port/0",
        "redis://user:{}@queue/five",
        "redis://user:{}@a;redis://b",
        "http://user:{}@queue",
    ],
)
@given(password=st.text(st.characters(codec="utf-8"), min_size=8))
def test_no_password_is_ever_shown(url: str, password: str) -> None:
    secret = "s3cret" + password
    try:
        broker = RedisBroker(config(url.format(quote(secret, safe=""))))
    except ConfigurationError as error:
        shown = str(error)
    else:
        endpoint = parse_endpoint(url.format(quote(secret, safe="")))
        assert endpoint.password == secret
        shown = f"{broker.address} {endpoint!r} {endpoint}"
    assert "s3cret" not in shown


def test_an_unescaped_password_is_not_shown_either() -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_endpoint("redis://:s3cret/more@queue/0")

    assert "s3cret" not in str(error.value)
    assert error.value.__cause__ is None


# -- options -------------------------------------------------------------------------------------------------


def test_broker_options_have_kombus_defaults() -> None:
    _, options = read_broker_config(config())

    assert options.priority_steps == (0, 3, 6, 9)
    assert options.sep == "\x06\x16"
    assert options.visibility_timeout == 3600
    assert (options.unacked_key, options.unacked_index_key) == ("unacked", "unacked_index")
    assert (options.unacked_mutex_key, options.unacked_mutex_expire) == ("unacked_mutex", 300)
    assert options.queue_order_strategy == "round_robin"


def test_broker_options_are_honoured() -> None:
    given = {
        "global_keyprefix": "team1:",
        "priority_steps": list(range(10)),
        "sep": ":",
        "visibility_timeout": 60,
        "unacked_key": "u",
        "queue_order_strategy": "sorted",
    }
    _, options = read_broker_config(config(options=given))

    assert options.global_keyprefix == "team1:"
    assert options.priority_steps == tuple(range(10))
    assert (options.sep, options.visibility_timeout, options.unacked_key) == (":", 60, "u")
    assert options.queue_order_strategy == "sorted"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"visibility_timeuot": 5, "zzz": 1}, ["'visibility_timeuot'", "'zzz'", "visibility_timeout"]),
        ({"visibility_timeout": "long"}, ["visibility_timeout"]),
        ({"visibility_timeout": 0}, ["visibility_timeout"]),
        ({"priority_steps": "0369"}, ["priority_steps"]),
        ({"priority_steps": []}, ["priority_steps"]),
        ({"priority_steps": [0, 10]}, ["priority_steps"]),
        ({"queue_order_strategy": "lottery"}, ["round_robin"]),
        ({"sep": ""}, ["sep"]),
        ({"global_keyprefix": 5}, ["global_keyprefix"]),
        ({"master_name": "mymaster"}, ["Sentinel"]),
        ({"socket_keepalive_options": 5}, ["socket_keepalive_options"]),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_broker_config(config(options=options))

    assert all(word in str(error.value) for word in words)


def test_an_option_without_effect_is_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_broker_config(
            config("redis://localhost/0?max_connections=5", {"socket_timeout": 3, "socket_keepalive": False})
        )

    assert "'socket_timeout'" in caplog.text
    assert "'socket_keepalive'" in caplog.text
    assert "'max_connections'" in caplog.text


@pytest.mark.parametrize(
    ("prefix", "before_key"),
    [("", ""), ("myapp", "myapp_"), ("myapp:", "myapp:"), ("a_", "a_"), ("a-", "a-"), ("a.", "a.")],
)
def test_the_result_backend_joins_its_prefix(prefix: str, before_key: str) -> None:
    _, options = read_backend_config(config(options={"global_keyprefix": prefix}))

    assert options.prefix == before_key


def test_the_result_backend_does_not_take_the_brokers_options_for_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_backend_config(config(options={"visibility_timeout": 18000}))

    assert "option of the broker" in caplog.text


def test_the_client_name_fits_the_server() -> None:
    endpoint, _ = read_broker_config(config())

    assert endpoint.client_name == "asyncq:my-shop"
