"""The memory backend keeps the contract of chords."""

from __future__ import annotations

from typing import Any

import pytest

from asyncq._clock import system_environment
from asyncq.driver import DriverConfig
from asyncq.testing.joining_contract import JoiningBackend, JoiningContract, MakeBackend
from asyncq_backends.memory import MemoryBackend


class TestMemoryChords(JoiningContract):
    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        shared: dict[str, Any] = {}

        def make(*, timeout: float = 10.0) -> JoiningBackend:
            environment = system_environment()
            return MemoryBackend(
                DriverConfig(url="memory://", app="contract", environment=environment, timeout=timeout, shared=shared)
            )

        return make
