"""Items are Celery's, tables are made as the URL says, and waiting costs little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
from celery import Celery

from asyncq._clock import new_id, system_environment
from asyncq.driver import Coordinating, DriverConfig, Fact, StoredResult
from asyncq.errors import BackendError, ConfigurationError
from asyncq.protocol import ResultRecord, SavedGroup, decode_group, decode_result, encode_group, encode_result
from asyncq_backends.dynamodb import DynamoBackend
from asyncq_backends.dynamodb.options import read_config
from aws.moto_server import MotoServer
from waiting import PATIENCE

#: boto3's clients have no types.
Client = Any


@pytest.fixture
def table() -> str:
    return f"table-{new_id()[:8]}"


@pytest.fixture
def client(moto: MotoServer) -> Iterator[Client]:
    client: Client = boto3.client("dynamodb", endpoint_url=moto.endpoint, region_name="us-east-1")
    yield client
    client.close()


@asynccontextmanager
async def opened(moto: MotoServer, table: str, query: str = "", **options: Any) -> AsyncGenerator[DynamoBackend]:
    backend = DynamoBackend(config(f"dynamodb://testing:testing@127.0.0.1:{moto.port}/{table}{query}", **options))
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()


def config(url: str, **options: Any) -> DriverConfig:
    return DriverConfig(url=url, app="tests", environment=system_environment(), options=options)


def result(task_id: str, status: str = "SUCCESS", value: object = 3, expires: float | None = None) -> StoredResult:
    record = encode_result(ResultRecord(task_id=task_id, status=status, result=value))
    return StoredResult(task_id=task_id, record=record, status=status, expires=expires)


def celery_app(moto: MotoServer, table: str, **conf: Any) -> Celery:
    app = Celery("tests", backend=f"dynamodb://testing:testing@127.0.0.1:{moto.port}/{table}", set_as_current=False)
    app.conf.update(conf)
    return app


# -- items -----------------------------------------------------------------------------------------------------


async def test_an_item_is_celerys_to_the_attribute(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table, "?ttl_seconds=600") as backend:
        before = time.time()
        stored = result("it's \\ odd")
        assert await backend.store([stored]) == [True]
    (item,) = client.scan(TableName=table)["Items"]
    assert set(item) == {"id", "result", "timestamp", "ttl"}
    assert item["id"] == {"S": str(b"celery-task-meta-it's \\ odd")}
    assert item["result"] == {"B": stored.record}
    assert before <= float(item["timestamp"]["N"]) <= time.time()
    assert 600 <= int(item["ttl"]["N"]) - float(item["timestamp"]["N"]) <= 601


async def test_a_result_without_an_end_has_no_ttl(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table, "?ttl_seconds=-1") as backend:
        await backend.store([result("a", expires=60.0)])
    (item,) = client.scan(TableName=table)["Items"]
    assert "ttl" not in item


async def test_celery_reads_ours_and_we_read_celerys(moto: MotoServer, table: str) -> None:
    options = {"global_keyprefix": "team1"}
    async with opened(moto, table, **options) as backend:
        app = celery_app(moto, table, result_backend_transport_options=options, result_compression="gzip")
        await backend.store([result("ours", value=[1, "two"])])
        assert await asyncio.to_thread(lambda: app.AsyncResult("ours").get(timeout=5)) == [1, "two"]
        await asyncio.to_thread(app.backend.store_result, "theirs", {"n": 1}, "SUCCESS")
        (record,) = await backend.get(["theirs"])
        assert record is not None
        assert decode_result(record).result == {"n": 1}
        assert await backend.store([result("theirs", status="FAILURE")]) == [False]
        app.close()


async def test_what_celery_has_not_finished_is_overwritten(moto: MotoServer, table: str) -> None:
    async with opened(moto, table) as backend:
        app = celery_app(moto, table)
        await asyncio.to_thread(app.backend.store_result, "t", None, "STARTED")
        app.close()
        assert await backend.store([result("t")]) == [True]
        assert await backend.store([result("t")]) == [False]


async def test_a_strangers_record_without_a_time_is_overwritten(moto: MotoServer, table: str, client: Client) -> None:
    async with opened(moto, table) as backend:
        pending = encode_result(ResultRecord(task_id="t", status="PENDING"))
        client.put_item(TableName=table, Item={"id": {"S": "b'celery-task-meta-t'"}, "result": {"B": pending}})
        async with asyncio.timeout(PATIENCE):
            assert await backend.store([result("t")]) == [True]
        assert await backend.store([result("t")]) == [False]


async def test_groups_are_kept_where_celery_keeps_them(moto: MotoServer, table: str) -> None:
    async with opened(moto, table) as backend:
        app = celery_app(moto, table)
        await backend.save_group("ours", encode_group(SavedGroup(group_id="ours", members=["a", "b"])))
        found = await asyncio.to_thread(lambda: [each.id for each in app.GroupResult.restore("ours")])
        assert found == ["a", "b"]
        await asyncio.to_thread(lambda: app.GroupResult("theirs", [app.AsyncResult("c")]).save())
        saved = await backend.saved_group("theirs")
        assert saved is not None
        assert list(decode_group(saved).task_ids()) == ["c"]
        await backend.forget_group("theirs")
        assert await backend.saved_group("theirs") is None
        app.close()


async def test_an_expired_success_stands_in_nobodys_way(moto: MotoServer, table: str, client: Client) -> None:
    """DynamoDB deletes what has expired up to days later."""
    async with opened(moto, table) as backend:
        await backend.store([result("t", expires=60.0)])
        item = client.scan(TableName=table)["Items"][0]
        client.put_item(TableName=table, Item={**item, "ttl": {"N": str(int(time.time()) - 1)}})
        assert await backend.get(["t"]) == [None]
        assert await backend.store([result("t", status="STARTED")]) == [True]


async def test_the_first_record_of_a_task_is_one_request(moto: MotoServer, table: str) -> None:
    """And so is the next one of the same worker: it knows what it wrote."""
    async with opened(moto, table) as backend:
        before = backend.requests
        assert await backend.store([result("a", status="STARTED")]) == [True]
        assert await backend.store([result("a")]) == [True]
        assert backend.requests - before == 2


async def test_what_is_too_large_is_refused_by_name_and_the_others_are_stored(moto: MotoServer, table: str) -> None:
    async with opened(moto, table) as backend:
        batch = [result("a"), result("big", value="x" * 420_000), result("b")]
        with pytest.raises(BackendError, match="result of task big has 420,"):
            await backend.store(batch)
        found = await backend.get(["a", "big", "b"])
    assert [record is not None for record in found] == [True, False, True]


async def test_waiting_asks_often_at_first_and_then_at_most_once_a_second(moto: MotoServer, table: str) -> None:
    async with opened(moto, table) as backend:
        before = backend.requests
        ids = [f"task-{number}" for number in range(50)]
        async with backend.watch(ids) as changes:
            waiting = asyncio.create_task(anext(changes))  # type: ignore[arg-type] - it is a coroutine here
            await asyncio.sleep(3.0)
            requests = backend.requests - before
            assert 3 <= requests <= 14  # one batched read at a time, for all fifty
            await backend.store([result("task-7")])
            async with asyncio.timeout(5):
                assert (await waiting)[0] == "task-7"


# -- tables ----------------------------------------------------------------------------------------------------


async def test_a_table_is_billed_by_request_unless_the_url_says_otherwise(
    moto: MotoServer, table: str, client: Client
) -> None:
    async with opened(moto, table), opened(moto, f"{table}-5", "?read=5&write=7"):
        described = client.describe_table(TableName=table)["Table"]
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert described["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
        units = client.describe_table(TableName=f"{table}-5")["Table"]["ProvisionedThroughput"]
        assert (units["ReadCapacityUnits"], units["WriteCapacityUnits"]) == (5, 7)
        expiry = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "ttl")


async def test_expiry_of_a_table_that_was_there_is_changed_as_celery_does(
    moto: MotoServer, table: str, client: Client
) -> None:
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )

    def status() -> str:
        return client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"]

    for query, expected in (("", "DISABLED"), ("?ttl_seconds=60", "ENABLED"), ("", "ENABLED")):
        async with opened(moto, table, query):
            assert status() == expected
    async with opened(moto, table, "?ttl_seconds=-1"):
        assert status() == "DISABLED"


async def test_facts_have_a_table_of_their_own_which_is_made_at_first_use(
    moto: MotoServer, table: str, client: Client
) -> None:
    async with opened(moto, table) as backend:
        assert f"{table}-asyncq" not in client.list_tables()["TableNames"]
        await backend.coordination.put([Fact(key="asyncq.x", value=b"1", ttl=60)])
        (item,) = client.scan(TableName=f"{table}-asyncq")["Items"]
        assert (item["space"], item["key"]) == ({"S": "asyncq.facts"}, {"S": "asyncq.x"})
        assert not client.scan(TableName=table)["Items"]


async def test_without_a_table_for_facts_it_does_not_coordinate(moto: MotoServer, table: str) -> None:
    async with opened(moto, table, facts_table=False) as backend:
        driver: object = backend
        assert not isinstance(driver, Coordinating)
        assert len(backend.policy("worker", [])) == 1
        assert await backend.store([result("a")]) == [True]
    async with opened(moto, table, facts_table="elsewhere") as backend:
        assert isinstance(backend, Coordinating)
        assert "table/elsewhere" in str(backend.policy("worker", []))


# -- URLs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "region", "endpoint", "table"),
    [
        ("dynamodb://@us-east-1", "us-east-1", None, "celery"),
        ("dynamodb://eu-west-1/tbl", "eu-west-1", None, "tbl"),
        ("dynamodb://K:s%2Fe@eu-west-1/tbl", "eu-west-1", None, "tbl"),
        ("dynamodb://@localhost:8000/tbl", "us-east-1", "http://localhost:8000", "tbl"),
        ("dynamodb://@10.0.0.5:8000/tbl", "us-east-1", "http://10.0.0.5:8000", "tbl"),
        ("dynamodb://", None, None, "celery"),
    ],
)
def test_urls(url: str, region: str | None, endpoint: str | None, table: str) -> None:
    account, options = read_config(config(url))
    assert (account.region, account.endpoint_url, options.table) == (region, endpoint, table)
    assert account.secret_key in {None, "s/e"}
    assert "s/e" not in repr(account)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("dynamodb://KEY@us-east-1", "both a key and a secret"),
        ("dynamodb://@us-east-1/t?ttl_seconds=abc", "ttl_seconds: must be a whole number"),
        ("dynamodb://@us-east-1/t?reed=1", "unknown options: reed"),
        ("dynamodb://K:se/cret@us-east-1/t", "percent-encoded"),
    ],
)
def test_urls_that_are_wrong(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        read_config(config(url))
    assert "cret" not in str(caught.value).replace("secret", "")
