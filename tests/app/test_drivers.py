"""From URLs, callables and instances to drivers."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest
from msgspec.structs import replace

from asyncq import AsyncQ, ConfigurationError, _drivers
from asyncq.driver import DriverConfig
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker


def pretend(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Let the scheme `fancy://` be served by `target`."""
    entry = EntryPoint(name="fancy", value=target, group="asyncq.brokers")
    monkeypatch.setattr(_drivers, "_entries", lambda group: {"fancy": entry})


def test_each_caller_gets_drivers_of_its_own_on_the_same_store() -> None:
    queue = AsyncQ("shop", broker="memory://")
    first, second = queue.make_broker(), queue.make_broker()
    assert isinstance(first, MemoryBroker)
    assert first is not second
    assert isinstance(queue.make_backend(), MemoryBackend)


def test_no_backend_is_none() -> None:
    assert AsyncQ("shop", broker="redis://h").make_backend() is None


def test_what_a_driver_is_told() -> None:
    seen: list[DriverConfig] = []

    def make(config: DriverConfig) -> MemoryBroker:
        seen.append(config)
        return MemoryBroker(replace(config, options={}))

    queue = AsyncQ("shop", broker=make, broker_transport_options={"a": 1}, broker_use_ssl=True, network_timeout=3)
    assert isinstance(queue.make_broker(), MemoryBroker)
    (config,) = seen
    assert (config.app, config.options, config.tls, config.timeout) == ("shop", {"a": 1}, True, 3.0)


@pytest.mark.parametrize("url", ["amqp://h", "pyamqp://h", "amqps://h;amqps://i"])
def test_celerys_own_settings_for_rabbitmq_are_options_of_its_drivers(url: str) -> None:
    queue = AsyncQ("shop", broker=url, backend="rpc://", broker_transport_options={"client_name": "shop"})
    queue.config_from_object(
        {"broker_heartbeat": 7, "broker_login_method": "EXTERNAL", "broker_heartbeat_checkrate": 3.0}
    )
    for options in (queue.settings.broker_options, queue.settings.reply_options):
        assert (options["heartbeat"], options["login_method"]) == (7, "EXTERNAL")
    assert queue.settings.broker_options["client_name"] == "shop"
    queue.make_broker()  # which refuses options that it doesn't know
    queue.make_backend()


def test_settings_for_rabbitmq_are_no_options_elsewhere() -> None:
    queue = AsyncQ("shop", broker="redis://h", backend="redis://h", broker_heartbeat=7)
    assert queue.settings.broker_options == {}
    queue.make_broker()


def test_an_instance_serves_one_user() -> None:
    config = DriverConfig(url="memory://", app="shop", environment=AsyncQ("shop")._environment)
    broker = MemoryBroker(config)
    queue = AsyncQ("shop", broker=broker)
    assert queue.make_broker() is broker
    with pytest.raises(ConfigurationError, match="MemoryBroker that the app was given is in use"):
        queue.make_broker()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sentinel://u:canary@h", "broker sentinel:// is not supported yet; there is "),
        ("librabbitmq://", "broker librabbitmq:// is not supported yet"),
        ("carrier-pigeon://canary", "broker carrier-pigeon:// has no driver installed"),
    ],
)
def test_a_scheme_without_a_driver(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncQ("shop", broker=url).make_broker()
    assert str(caught.value).startswith(text)
    assert "canary" not in str(caught.value)
    assert "redis://" in str(caught.value)


def test_rpc_results_travel_over_the_brokers_own_server() -> None:
    queue = AsyncQ("shop", broker="amqp://user:canary@rabbit/shop", backend="rpc://")
    backend = queue.make_backend()
    assert backend is not None
    assert backend.address == "rpc:// (amqp://rabbit:5672/shop)"
    with pytest.raises(ConfigurationError, match="not an AMQP URL: its scheme is 'memory'"):
        AsyncQ("shop", broker="memory://", backend="rpc://").make_backend()
    with pytest.raises(ConfigurationError, match="need a broker that is given as a URL"):
        AsyncQ("shop", broker=MemoryBroker, backend="rpc://").make_backend()


def test_a_missing_extra_ends_in_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    for name in [name for name in sys.modules if name.startswith(("asyncq_brokers.redis", "asyncq_brokers._clients"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError) as caught:
        AsyncQ("shop", broker="redis://h").make_broker()
    assert str(caught.value) == "redis:// needs an extra: pip install 'asyncq[redis]'"


def test_any_other_import_error_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "not_installed_anywhere:Broker")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        AsyncQ("shop", broker="fancy://").make_broker()


def test_a_third_partys_driver_is_found_by_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "asyncq_brokers.memory:MemoryBroker")
    assert isinstance(AsyncQ("shop", broker="fancy://").make_broker(), MemoryBroker)
