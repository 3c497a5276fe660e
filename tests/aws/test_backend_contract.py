"""The DynamoDB and the S3 backend keep the contract of results, DynamoDB those of coordination and chords too."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest

from asyncq._clock import new_id, system_environment
from asyncq.driver import DriverConfig, ResultBackend
from asyncq.testing.backend_contract import BackendContract, Freeze, MakeBackend, Subscriptions
from asyncq.testing.coordination_contract import CoordinatingDriver, CoordinationContract, MakeDriver
from asyncq.testing.joining_contract import JoiningBackend, JoiningContract
from asyncq.testing.joining_contract import MakeBackend as MakeJoiningBackend
from asyncq_backends.dynamodb import DynamoBackend
from asyncq_backends.s3 import S3Backend
from aws.moto_server import MotoServer

#: Seconds that a call gets at least, however hurried a test is: on a busy machine moto needs them for its answer.
_LEAST = 1.5


@pytest.fixture(scope="module")
def table() -> str:
    return f"results-{new_id()[:8]}"


def make(moto: MotoServer, table: str, timeout: float) -> DynamoBackend:
    url = f"dynamodb://testing:testing@127.0.0.1:{moto.port}/{table}"
    config = DriverConfig(url=url, app="contract", environment=system_environment(), timeout=max(timeout, _LEAST))
    return DynamoBackend(config)


def frozen(moto: MotoServer) -> Freeze:
    @asynccontextmanager
    async def freeze() -> AsyncGenerator[None]:
        moto.pause()
        try:
            yield
        finally:
            moto.resume()

    return freeze


class TestDynamoBackend(BackendContract):
    @pytest.fixture
    def make_backend(self, moto: MotoServer, table: str) -> MakeBackend:
        return lambda *, timeout=10.0: make(moto, table, timeout)

    @pytest.fixture
    def freeze(self, moto: MotoServer) -> Freeze:
        return frozen(moto)

    @pytest.fixture
    def subscriptions(self) -> Subscriptions:
        async def count(backend: ResultBackend) -> int:
            assert isinstance(backend, DynamoBackend)
            return backend.followed

        return count


@pytest.fixture(scope="module")
def bucket(moto: MotoServer) -> str:
    name = f"results-{new_id()[:8]}"
    client: Any = boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


class TestS3Backend(BackendContract):
    many = 150

    @pytest.fixture
    def make_backend(self, moto: MotoServer, bucket: str) -> MakeBackend:
        def make_backend(*, timeout: float = 10.0) -> ResultBackend:
            options = {"endpoint_url": moto.endpoint, "region": "us-east-1"}
            url = f"s3://testing:testing@{bucket}/a/prefix"
            return S3Backend(
                DriverConfig(
                    url=url,
                    app="contract",
                    environment=system_environment(),
                    timeout=max(timeout, _LEAST),
                    options=options,
                )
            )

        return make_backend

    @pytest.fixture
    def freeze(self, moto: MotoServer) -> Freeze:
        return frozen(moto)

    @pytest.fixture
    def subscriptions(self) -> Subscriptions:
        async def count(backend: ResultBackend) -> int:
            assert isinstance(backend, S3Backend)
            return backend.followed

        return count


class TestDynamoCoordination(CoordinationContract):
    @pytest.fixture
    def make_driver(self, moto: MotoServer, table: str) -> MakeDriver:
        def make_driver(*, timeout: float = 10.0) -> CoordinatingDriver:
            return make(moto, table, timeout)

        return make_driver

    @pytest.fixture
    def freeze(self, moto: MotoServer) -> Freeze:
        return frozen(moto)


class TestDynamoChords(JoiningContract):
    many = 40  # for each transaction moto copies its tables

    @pytest.fixture
    def make_backend(self, moto: MotoServer) -> MakeJoiningBackend:
        table = f"chords-{new_id()[:8]}"

        def make_backend(*, timeout: float = 10.0) -> JoiningBackend:
            return make(moto, table, timeout)

        return make_backend

    @pytest.fixture
    def freeze(self, moto: MotoServer) -> Freeze:
        return frozen(moto)
