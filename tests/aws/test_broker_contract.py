"""The SQS broker keeps the contract: on moto, and on a server that is stricter."""

from __future__ import annotations

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Broker, DriverConfig
from asyncq.testing.broker_contract import BrokerContract, Freeze, MakeBroker, Restart
from asyncq_brokers.sqs import SqsBroker
from aws.moto_server import MotoServer
from aws.strict_sqs import StrictSqs


def make_broker(url: str, timeout: float, wait: int) -> Broker:
    environment = system_environment()
    options = {"wait_time_seconds": wait}
    return SqsBroker(DriverConfig(url=url, app="contract", environment=environment, timeout=timeout, options=options))


class TestSqsBrokerOnMoto(BrokerContract):
    @pytest.fixture
    def make_broker(self, moto: MotoServer) -> MakeBroker:
        # No long polls: moto goes on with one whose client has left, and takes messages for nobody.
        return lambda *, timeout=10.0: make_broker(moto.sqs_url, timeout, 0)


class TestSqsBrokerOnStrictServer(BrokerContract):
    @pytest.fixture
    def make_broker(self, strict: StrictSqs) -> MakeBroker:
        return lambda *, timeout=10.0: make_broker(strict.url, timeout, 1)

    @pytest.fixture
    def restart(self, strict: StrictSqs) -> Restart:
        return strict.restart

    @pytest.fixture
    def freeze(self, strict: StrictSqs) -> Freeze:
        return strict.frozen
