"""Where facts that workers and clients share are kept: the backend's server before the broker's."""

from __future__ import annotations

from typing import Any

from asyncq._clock import system_environment
from asyncq._coordination import coordination_of
from asyncq.driver import DriverConfig
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker


def test_the_first_driver_that_coordinates() -> None:
    shared: dict[str, Any] = {}
    config = DriverConfig(url="memory://", app="tests", environment=system_environment(), shared=shared)
    backend, broker = MemoryBackend(config), MemoryBroker(config)

    assert coordination_of(backend, broker) is backend.coordination
    assert coordination_of(None, broker) is broker.coordination

    of_broker = broker.coordination
    del backend.coordination  # a driver whose server can't coordinate has no such attribute
    assert coordination_of(backend, broker) is of_broker
    del broker.coordination
    assert coordination_of(backend, broker) is None
