"""Roles: who borrows them, how often, and what is said where that is denied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from asyncq.driver import Queue
from asyncq.errors import ConfigurationError
from asyncq_brokers.sqs import SqsBroker
from aws.kit import config, publish, task
from aws.strict_sqs import StrictSqs

_ROLE = "arn:aws:iam::123456789012:role/sender"

_LENT = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>LENT</AccessKeyId><SecretAccessKey>lent-secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""

_DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>not authorized</Message></Error><RequestId>x</RequestId></ErrorResponse>"""


class Sts:
    """Lends to everybody, or to nobody."""

    def __init__(self) -> None:
        #: Keys that asked for a role, one a request.
        self.askers: list[str] = []
        self.denies = False

    async def answer(self, request: web.Request) -> web.Response:
        self.askers.append(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        if self.denies:
            return web.Response(status=403, text=_DENIED, content_type="text/xml")
        seconds = int(str((await request.post())["DurationSeconds"]))
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        return web.Response(text=_LENT.format(expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}"), content_type="text/xml")


@pytest.fixture
async def sts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sts]:
    server, application = Sts(), web.Application()
    application.router.add_post("/", server.answer)
    runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield server
    await runner.cleanup()


async def served(strict: StrictSqs, url: str, **options: Any) -> None:
    """A broker with the role sends a few messages."""
    broker = SqsBroker(config(url, region="us-east-1", sts_role_arn=_ROLE, **options))
    try:
        await broker.open()
        await broker.declare([Queue(name="q")])
        for number in range(5):
            await publish(broker, "q", task(number))
    finally:
        await broker.close()
    assert len(strict.queues["q"].messages) == 5


@pytest.mark.parametrize("duration", [900, 3600])
async def test_a_role_is_borrowed_once(strict: StrictSqs, sts: Sts, duration: int) -> None:
    await served(strict, f"sqs://127.0.0.1:{strict.port}", sts_token_timeout=duration)
    assert sts.askers == ["testing"]  # of the environment
    assert strict.keys == {"LENT"}


async def test_keys_of_the_url_borrow_the_role(strict: StrictSqs, sts: Sts) -> None:
    """They are who may take it on, and no way round it."""
    await served(strict, f"sqs://URLKEY:secret@127.0.0.1:{strict.port}")
    assert sts.askers == ["URLKEY"]
    assert strict.keys == {"LENT"}


async def test_a_role_that_is_denied_is_told_when_the_broker_opens(strict: StrictSqs, sts: Sts) -> None:
    sts.denies = True
    broker = SqsBroker(config(f"sqs://127.0.0.1:{strict.port}", region="us-east-1", sts_role_arn=_ROLE))
    try:
        with pytest.raises(ConfigurationError, match="denies sts:AssumeRole:"):
            await broker.open()
    finally:
        await broker.close()


def test_the_policy_says_that_the_role_may_be_borrowed() -> None:
    *_, statement = SqsBroker(config("sqs://", sts_role_arn=_ROLE)).policy("producer", ["q"])
    assert statement == {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": [_ROLE]}
