"""One moto for all tests of a session, and a strict SQS for each test that wants one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from aws.moto_server import CREDENTIALS, MotoServer
from aws.strict_sqs import StrictSqs


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
async def strict() -> AsyncIterator[StrictSqs]:
    async with StrictSqs() as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own AWS reaches a test, and no test asks a machine's metadata."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
