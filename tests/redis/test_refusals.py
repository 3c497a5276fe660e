"""Servers that are not there, refuse us, or will not do."""

from __future__ import annotations

import pytest

from asyncq.errors import BrokerConnectionError, ConfigurationError, PublishError
from asyncq_brokers.redis import RedisBroker
from redis_kit import Client, consume, make_broker, numbers, publish, take
from servers import RedisServer


async def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    broker = make_broker("redis://127.0.0.1:1/0")

    with pytest.raises(BrokerConnectionError, match=r"127\.0\.0\.1:1"):
        await broker.open()
    await broker.close()


async def test_a_wrong_password_is_a_configuration_error_that_shows_none() -> None:
    with RedisServer(requirepass="right") as server:
        broker = make_broker(f"redis://:s3cret@127.0.0.1:{server.port}/0")
        with pytest.raises(ConfigurationError) as error:
            await broker.open()
        await broker.close()
        assert "s3cret" not in str(error.value)

        broker = make_broker(f"redis://:right@127.0.0.1:{server.port}/3")
        await broker.open()
        await broker.close()


async def test_an_unknown_database_is_a_configuration_error(own_server: RedisServer) -> None:
    broker = make_broker(own_server.url(999))

    with pytest.raises(ConfigurationError):
        await broker.open()
    await broker.close()


async def test_a_unix_socket_will_do(own_server: RedisServer) -> None:
    own_server.command("FLUSHALL")
    broker = make_broker(f"redis+socket://{own_server.socket_path}?virtual_host=2")
    await broker.open()
    await publish(broker, "q", 1)

    assert numbers(await take(consume(broker, "q"), 1)) == [1]
    await broker.close()


async def test_a_replica_is_no_broker(own_server: RedisServer) -> None:
    """READONLY means: wrong server for now. The next call connects anew, perhaps to the right one."""
    with RedisServer() as replica:
        replica.command("REPLICAOF", "127.0.0.1", str(own_server.port))
        broker = make_broker(replica.url())
        with pytest.raises(BrokerConnectionError):
            await publish(broker, "q", 1)
        with pytest.raises(BrokerConnectionError):
            await publish(broker, "q", 1, 2)
        with pytest.raises(BrokerConnectionError):
            await consume(broker, "q").receive(1)
        replica.command("REPLICAOF", "NO", "ONE")

        await publish(broker, "q", 3)

        assert numbers(await take(consume(broker, "q"), 1)) == [3]
        await broker.close()


async def test_an_evicting_server_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(maxmemory_policy="allkeys-lru") as server:
        broker = make_broker(server.url())
        await broker.open()
        await broker.close()

    assert "allkeys-lru" in caplog.text


async def test_a_publish_error_names_each_message(broker: RedisBroker, client: Client) -> None:
    client.set("q", "text")

    with pytest.raises(PublishError) as refused:
        await publish(broker, "q", 1, 2)

    assert set(refused.value.failures) == {0, 1}
