"""The configuration of a team that moves from Redis to SQS and DynamoDB loads unchanged, and a worker serves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest

from asyncq import AsyncQ
from aws.moto_server import MotoServer
from cli.kit import Shell

pytestmark = pytest.mark.timeout(180)

CELERYCONFIG = """
import os
from urllib.parse import quote

aws_access_key = quote(os.environ["ACCESS_KEY"], safe="")
aws_secret_key = quote(os.environ["SECRET_KEY"], safe="")

broker_url = "sqs://{key}:{secret}@".format(key=aws_access_key, secret=aws_secret_key)
broker_transport_options = {
    "region": os.environ["REGION"],
    "visibility_timeout": os.environ["VISIBILITY_TIMEOUT"],
    "polling_interval": os.environ["POLLING_INTERVAL"],
    "wait_time_seconds": os.environ["WAIT_TIME"],
    "queue_name_prefix": "hoge-",
}
result_backend = "dynamodb://@ap-northeast-1/table_name"
task_serializer = "json"
worker_concurrency = 4
"""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto: MotoServer) -> Iterator[None]:
    (tmp_path / "hoge_celeryconfig.py").write_text(CELERYCONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    environment = {
        "ACCESS_KEY": "AKIA+EXAMPLE",
        "SECRET_KEY": "se/cr+et=",
        "REGION": "ap-northeast-1",
        "VISIBILITY_TIMEOUT": "3600",
        "POLLING_INTERVAL": "0.1",
        "WAIT_TIME": "1",
        "AWS_ENDPOINT_URL": moto.endpoint,
        "AWS_SESSION_TOKEN": "to+ken",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield
    sys.modules.pop("hoge_celeryconfig", None)


@pytest.mark.usefixtures("team")
async def test_it_loads_unchanged_and_a_worker_serves_a_queue_of_its_own_making(moto: MotoServer) -> None:
    async with AsyncQ("hoge") as queue:
        queue.config_from_object("hoge_celeryconfig")

        @queue.task(name="hoge.add")
        async def add(a: int, b: int) -> int:
            return a + b

        async with queue.worker():
            result = await add.send(1, 2)
            assert await result.get(timeout=20) == 3

    sqs = boto3.client("sqs", endpoint_url=moto.endpoint, region_name="ap-northeast-1")
    url = sqs.get_queue_url(QueueName="hoge-celery")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "3600"
    assert attributes["ApproximateNumberOfMessages"] == attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
    sqs.close()


SHOP = """
from pathlib import Path

from asyncq import AsyncQ

queue = AsyncQ("hoge", default_queue="shell")
queue.config_from_object("hoge_celeryconfig")


@queue.task(name="hoge.write")
async def write(name: str) -> None:
    Path(name).touch()
"""


@pytest.mark.usefixtures("team")
async def test_nothing_that_the_commands_say_has_a_secret_in_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("hoge_shop.py", SHOP)
    app = "hoge_shop:queue"
    said = [
        await shell.run("send", app, "hoge.write", "written"),
        await shell.run("worker", app, "--burst", "--processes", "1", "--loglevel", "debug"),
        await shell.run("check", app),
    ]
    assert [finished.code for finished in said] == [0, 0, 0]
    assert (tmp_path / "written").exists()
    text = "".join(finished.out + finished.err for finished in said)
    for secret in ("AKIA+EXAMPLE", "se/cr+et=", "to+ken"):
        assert secret not in text
        assert quote(secret, safe="") not in text
