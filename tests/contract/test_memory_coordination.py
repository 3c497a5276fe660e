"""The memory drivers keep the contract of coordination; in threads too, and exactly by the clock."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.testing.coordination_contract import CoordinatingDriver, CoordinationContract, MakeDriver
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker


@pytest.mark.parametrize("kind", [MemoryBroker, MemoryBackend])
class TestMemoryCoordination(CoordinationContract):
    @pytest.fixture
    def make_driver(self, kind: type[MemoryBroker | MemoryBackend]) -> MakeDriver:
        shared: dict[str, Any] = {}

        def make(*, timeout: float = 10.0) -> CoordinatingDriver:
            environment = system_environment()
            return kind(
                DriverConfig(url="memory://", app="contract", environment=environment, timeout=timeout, shared=shared)
            )

        return make
