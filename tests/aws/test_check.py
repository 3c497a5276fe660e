"""`asyncq check` on AWS: what works, and what to allow."""

from __future__ import annotations

import json

import pytest

from asyncq import AsyncQ
from asyncq.cli._findings import Verdict, examine
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
