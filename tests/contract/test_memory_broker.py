"""The memory broker keeps the contract."""

from __future__ import annotations

from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Broker, DriverConfig
from asyncq.testing.broker_contract import BrokerContract, MakeBroker
from asyncq_brokers.memory import MemoryBroker


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        shared: dict[str, Any] = {}

        def make(*, timeout: float = 10.0) -> Broker:
            environment = system_environment()
            return MemoryBroker(
                DriverConfig(url="memory://", app="contract", environment=environment, timeout=timeout, shared=shared)
            )

        return make
