"""The memory backend keeps the contract."""

from __future__ import annotations

from typing import Any, cast

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig, ResultBackend
from asyncq.testing.backend_contract import BackendContract, MakeBackend, Subscriptions
from asyncq_backends.memory import MemoryBackend


class TestMemoryBackend(BackendContract):
    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        shared: dict[str, Any] = {}

        def make(*, timeout: float = 10.0) -> ResultBackend:
            environment = system_environment()
            return MemoryBackend(
                DriverConfig(url="memory://", app="contract", environment=environment, timeout=timeout, shared=shared)
            )

        return make

    @pytest.fixture
    def subscriptions(self) -> Subscriptions:
        async def count(backend: ResultBackend) -> int:
            return cast("MemoryBackend", backend).followed

        return count
