"""`asyncq check` on AWS: what works, and what to allow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncq import AsyncQ
from asyncq.cli._findings import Verdict, examine
from asyncq_brokers.sqs import SqsBroker
from aws.kit import config
from aws.moto_server import MotoServer


def document(text: str) -> dict[str, list[dict[str, list[str]]]]:
    return json.loads(text[text.index("{") :])


async def test_it_prints_the_least_policies_and_no_secret(moto: MotoServer) -> None:
    host = f"127.0.0.1:{moto.port}"
    queue = AsyncQ(
        "shop",
        broker=f"sqs://AKIACANARY:canary%2Fsecret@{host}",
        backend=f"dynamodb://AKIACANARY:canary%2Fsecret@{host}/checked",
        broker_transport_options={"region": "eu-west-1", "queue_name_prefix": "shop-", "wait_time_seconds": 1},
    )
    findings = {finding.subject: finding for finding in await examine(queue)}

    assert findings["broker"].verdict is findings["results"].verdict is Verdict.OK
    producer = document(findings["IAM policy of a producer"].text)["Statement"]
    worker = document(findings["IAM policy of a worker"].text)["Statement"]
    assert producer[0] == {
        "Effect": "Allow",
        "Action": ["sqs:CreateQueue", "sqs:GetQueueUrl", "sqs:SendMessage"],
        "Resource": ["arn:aws:sqs:eu-west-1:*:shop-celery"],
    }
    assert "sqs:ReceiveMessage" in worker[0]["Action"]
    assert "arn:aws:sqs:eu-west-1:*:shop-celery-dead" in worker[0]["Resource"]
    assert "dynamodb:PutItem" in worker[1]["Action"]
    assert "dynamodb:PutItem" not in producer[1]["Action"]
    assert "anary" not in str(list(findings.values()))


async def test_without_a_cloud_there_is_no_policy() -> None:
    findings = await examine(AsyncQ("shop", broker="memory://", backend="memory://"))
    assert not [finding for finding in findings if "IAM" in finding.subject]


async def test_no_credentials_are_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    findings = {finding.subject: finding for finding in await examine(AsyncQ("shop", broker="sqs://"))}
    assert findings["broker"].verdict is Verdict.FAILED
    assert findings["broker"].text.startswith("no AWS credentials for sqs")


@pytest.mark.parametrize(
    ("options", "resource"),
    [
        ({"region": "eu-west-1"}, "arn:aws:sqs:eu-west-1:*:orders"),
        ({"region": "cn-north-1"}, "arn:aws-cn:sqs:cn-north-1:*:orders"),
        ({"region": "us-gov-west-1"}, "arn:aws-us-gov:sqs:us-gov-west-1:*:orders"),
        (
            {"predefined_queues": {"orders": {"url": "https://sqs.us-west-2.amazonaws.com/123456789012/orders-v2"}}},
            "arn:aws:sqs:us-west-2:123456789012:orders-v2",
        ),
        (
            {"predefined_queues": {"orders": {"url": "http://localhost:4566/queue/orders", "region": "eu-west-1"}}},
            "arn:aws:sqs:eu-west-1:*:orders",
        ),
    ],
)
def test_policies_name_the_queues_where_they_are(options: dict[str, Any], resource: str) -> None:
    statement, *_ = SqsBroker(config(**options)).policy("producer", ["orders"])
    assert statement["Resource"] == [resource]


def test_queues_with_tags_need_a_right_for_that() -> None:
    statement, *_ = SqsBroker(config(queue_tags={"team": "shop"})).policy("producer", ["orders"])
    assert "sqs:TagQueue" in statement["Action"]
