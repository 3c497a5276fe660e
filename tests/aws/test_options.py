"""Celery's transport options for SQS: honoured, named as without effect, or refused."""

from __future__ import annotations

import logging
from typing import Any

import boto3
import pytest

from asyncq.driver import Publication, Queue
from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.aws import split_url
from asyncq_brokers.sqs import SqsBroker
from asyncq_brokers.sqs.names import sqs_name
from asyncq_brokers.sqs.options import read_config
from aws.kit import config, task
from aws.moto_server import MotoServer


@pytest.mark.parametrize(
    ("url", "options", "endpoint"),
    [
        ("sqs://", {}, None),
        ("sqs://KEY:SECRET@", {}, None),
        ("sqs://KEY:SECRET@localhost:4566/0", {}, "http://localhost:4566"),
        ("sqs://KEY:SECRET@sqs.eu-west-1.amazonaws.com", {}, "http://sqs.eu-west-1.amazonaws.com"),
        ("sqs://KEY:SECRET@localhost:4566", {"is_secure": True}, "https://localhost:4566"),
        ("sqs://", {"is_secure": False, "region": "eu-west-1"}, "http://sqs.eu-west-1.amazonaws.com"),
    ],
)
def test_where_it_is(url: str, options: dict[str, Any], endpoint: str | None) -> None:
    account, _ = read_config(config(url, **options))
    assert account.endpoint_url == endpoint
    assert account.region == options.get("region")


def test_a_secret_is_decoded_and_never_shown() -> None:
    account, _ = read_config(config("sqs://KEY:sec%2Fret%2Bx@"))
    assert (account.access_key, account.secret_key) == ("KEY", "sec/ret+x")
    assert "ret" not in repr(account)


@pytest.mark.parametrize("secret", ["sec/ret:x", "/secret", "123/secret", "12/sec?ret", "1/sec#ret"])
def test_a_secret_that_is_not_encoded_is_told_so_without_showing_it(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        read_config(config(f"sqs://KEY:{secret}@"))
    assert "sec" not in str(caught.value).replace("secret", "")


def test_nothing_that_is_made_of_settings_shows_a_secret() -> None:
    queues = {"q": {"url": "https://sqs/1/q", "access_key_id": "AKIA", "secret_access_key": "CANARY"}}
    proxies = {"proxies": {"https": "http://user:CANARY@proxy"}}
    account, options = read_config(config("sqs://AKIA:CANARY@", predefined_queues=queues, **{"client-config": proxies}))
    assert options.predefined_queues["q"].secret_key == "CANARY"
    for shown in (account, options, options.predefined_queues, split_url("sqs://AKIA:CANARY@")):
        assert "CANARY" not in repr(shown)


def test_numbers_may_come_as_text() -> None:
    _, options = read_config(config(visibility_timeout="3600", wait_time_seconds="5", polling_interval="0.5"))
    assert (options.visibility_timeout, options.wait_time_seconds, options.polling_interval) == (3600, 5, 0.5)


@pytest.mark.parametrize(("text", "scheme"), [("False", "http"), ("0", "http"), ("true", "https"), (True, "https")])
def test_booleans_may_come_as_text(text: object, scheme: str) -> None:
    account, options = read_config(config("sqs://k:s@localhost:4566", is_secure=text, sqs_base64_encoding="false"))
    assert account.endpoint_url == f"{scheme}://localhost:4566"
    assert not options.base64


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"visibility_timeuot": 1}, "unknown for SQS: 'visibility_timeuot'; known are "),
        ({"visibility_timeout": 43_201}, r"\['visibility_timeout'\]: must be from 0 to 43200"),
        ({"wait_time_seconds": "long"}, r"\['wait_time_seconds'\]: must be a whole number, not 'long'"),
        ({"is_secure": "maybe"}, r"\['is_secure'\]: must be True or False, not 'maybe'"),
        ({"client-config": {"no_such": 1}}, r"\['client-config'\]: botocore's Config refuses it: .*no_such"),
        ({"predefined_queues": {"q": {}}}, "the queue 'q' needs a `url`"),
        ({"predefined_queues": {"q": {"url": "https://h/1/q.fifo"}}}, "must both end in .fifo, or neither"),
        ({"predefined_queues": {"q": {"url": "https://h/1/q", "key": 1}}}, "unknown keys: key"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        read_config(config(**options))


def test_what_means_nothing_here_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_config(config(supports_fanout=True, max_retries=3))
    assert "'supports_fanout'] has no effect" in caplog.text
    assert "'max_retries'] has no effect" in caplog.text


async def test_botocores_config_goes_with_ours(caplog: pytest.LogCaptureFixture) -> None:
    """As teams write it for Celery; what asyncq has its own rules for is named."""
    given = {"connect_timeout": 5, "read_timeout": 25, "retries": {"max_attempts": 9}, "max_pool_connections": 50}
    with caplog.at_level(logging.WARNING):
        broker = SqsBroker(config("sqs://k:s@", region="eu-west-1", **{"client-config": given}))
    try:
        await broker.open()
    finally:
        await broker.close()
    assert [name for name in given if f"'client-config']['{name}'] has no effect" in caplog.text] == [*given][:3]


@pytest.mark.parametrize(
    ("name", "mapped"),
    [
        ("celery", "celery"),
        ("a.b-c_d", "a-b-c_d"),
        ("jobs.fifo", "jobs.fifo"),
        ("q.dead", "q-dead"),
        ("jobs.fifo.dead", "jobs-dead.fifo"),
    ],
)
def test_names(name: str, mapped: str) -> None:
    assert sqs_name("", name) == mapped


@pytest.mark.parametrize("name", ["", "ü", "x" * 81, ".fifo"])
def test_names_that_sqs_does_not_take(name: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be the name of a queue on SQS"):
        sqs_name("", name)


async def test_a_role_is_taken_on_before_anything_is_asked(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    iam: Any = boto3.client("iam", region_name="us-east-1")
    role = iam.create_role(RoleName="sender", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.close()
    broker = SqsBroker(config(sts_role_arn=role, region="us-east-1"))
    try:
        await broker.open()
        await broker.declare([Queue(name="by-role")])
        await broker.publish([Publication(message=task(1), queue="by-role")])
        assert (await broker.depth("by-role")).ready == 1
    finally:
        await broker.close()
