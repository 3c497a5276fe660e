"""What facts and buckets leave on the server, and what they cost it."""

from __future__ import annotations

import itertools

import pytest

from asyncq._clock import system_environment
from asyncq.driver import Coordination, DriverConfig, Fact
from asyncq_backends.redis import RedisBackend
from asyncq_brokers.redis import RedisBroker
from redis_kit import Client, NewBackend, NewBroker
from servers import RedisServer
from waiting import until


def facts(*names: str, ttl: float = 60.0) -> list[Fact]:
    return [Fact(key=name, value=b"1", ttl=ttl) for name in names]


async def use_all(coordination: Coordination) -> None:
    await coordination.put(facts("a", "b", "c"))
    await coordination.put(facts("c", "d"), if_absent=True)
    await coordination.incr("count", ttl=60.0)
    await coordination.take("bucket", rate=0.1)
    await coordination.delete(["a"])
    await coordination.scan("")


async def test_every_key_is_asyncqs_and_has_a_time_to_live(broker: RedisBroker, client: Client) -> None:
    await use_all(broker.coordination)

    assert sorted(client.keys()) == [
        b"asyncq.buckets.bucket",
        b"asyncq.fact_names",
        b"asyncq.facts.b",
        b"asyncq.facts.c",
        b"asyncq.facts.count",
        b"asyncq.facts.d",
    ]
    assert all(0 < client.pttl(key) <= 60_000 for key in client.scan_iter())


async def test_what_is_deleted_leaves_nothing(broker: RedisBroker, client: Client) -> None:
    await broker.coordination.put(facts("a", "b"))
    await broker.coordination.incr("count", ttl=60.0)

    assert await broker.coordination.delete(["a", "b"], if_value=b"1") == 2
    assert await broker.coordination.delete(["count"]) == 1

    assert client.keys() == []


async def test_the_names_live_as_long_as_the_longest_lived_fact(broker: RedisBroker, client: Client) -> None:
    await broker.coordination.put(facts("long", ttl=100.0) + facts("short", ttl=5.0))
    await broker.coordination.put(facts("short", ttl=1.0))
    await broker.coordination.incr("count", ttl=1.0)
    assert 90_000 < client.pttl("asyncq.fact_names") <= 100_000

    await broker.coordination.incr("count", ttl=1000.0)
    assert 990_000 < client.pttl("asyncq.fact_names") <= 1_000_000


async def test_a_bucket_lives_until_it_is_full(broker: RedisBroker, client: Client) -> None:
    await broker.coordination.take("bucket", rate=0.1, capacity=5)
    assert 9_000 < client.pttl("asyncq.buckets.bucket") <= 10_000

    await broker.coordination.take("bucket", rate=0.1, capacity=5)
    assert 19_000 < client.pttl("asyncq.buckets.bucket") <= 20_000

    await broker.coordination.take("quick", rate=50_000.0)
    await until(lambda: not client.exists("asyncq.buckets.quick"))


async def test_a_bucket_counts_in_microseconds(broker: RedisBroker, client: Client) -> None:
    """Of UNIX time, which has sixteen digits of them."""
    full_at: list[float] = []
    for _ in range(3):
        await broker.coordination.take("bucket", rate=0.3)
        full_at.append(float(client.get("asyncq.buckets.bucket")))

    assert [later - earlier for earlier, later in itertools.pairwise(full_at)] == pytest.approx([1e6 / 0.3] * 2, abs=1)


@pytest.mark.parametrize("prefix", ["team1:", "[*?]\\"])
async def test_the_prefix_stands_before_all(
    new_broker: NewBroker, new_backend: NewBackend, client: Client, prefix: str
) -> None:
    other = (await new_backend()).coordination
    await other.put(facts("a", "other"))
    broker = (await new_broker(global_keyprefix=prefix)).coordination

    await use_all(broker)

    assert await broker.scan("") == [("b", b"1"), ("c", b"1"), ("count", b"1"), ("d", b"1")]
    assert await other.scan("") == [("a", b"1"), ("other", b"1")]
    theirs = {b"asyncq.fact_names", b"asyncq.facts.a", b"asyncq.facts.other"}
    assert all(key.startswith(f"{prefix}asyncq.".encode()) for key in set(client.keys()) - theirs)


async def test_brokers_and_backends_of_one_database_share_their_facts(
    broker: RedisBroker, backend: RedisBackend
) -> None:
    await broker.coordination.put(facts("a"))

    assert await backend.coordination.get(["a"]) == [b"1"]
    assert await backend.coordination.put(facts("a"), if_absent=True) == [False]


async def test_many_facts_are_one_command(broker: RedisBroker, client: Client) -> None:
    batch = facts(*(f"a{number}" for number in range(500)))
    await broker.coordination.put(batch)  # loads the script

    client.config_resetstat()
    await broker.coordination.put(batch, if_absent=True)
    await broker.coordination.get([fact.key for fact in batch])
    calls = client.info("commandstats")

    assert calls["cmdstat_evalsha"]["calls"] == 1
    assert calls["cmdstat_mget"]["calls"] == 1


async def test_a_scan_looks_at_facts_alone(broker: RedisBroker, client: Client) -> None:
    """Thousands of results on the same server cost it nothing."""
    client.mset({f"celery-task-meta-{number}": "" for number in range(5000)})
    await broker.coordination.put(facts("a.1", "a.2", "b"))
    await broker.coordination.scan("")

    client.config_resetstat()
    assert await broker.coordination.scan("a.") == [("a.1", b"1"), ("a.2", b"1")]
    calls = client.info("commandstats")

    assert calls["cmdstat_get"]["calls"] == 2
    assert "cmdstat_scan" not in calls
    assert "cmdstat_keys" not in calls


async def test_a_scan_drops_names_of_what_has_expired(broker: RedisBroker, client: Client) -> None:
    coordination = broker.coordination
    await coordination.put(facts("a.1", "a.2", "b"))
    client.delete("asyncq.facts.a.1")  # as when it expires, or is evicted

    assert await coordination.scan("a.") == [("a.2", b"1")]

    assert client.zrange("asyncq.fact_names", 0, -1) == [b"a.2", b"b"]


async def test_names_of_what_has_expired_do_not_pile_up(broker: RedisBroker, client: Client) -> None:
    """Without any scan."""
    coordination = broker.coordination
    names = [f"lasting.{number}" for number in range(200)]
    await coordination.put(facts(*names))
    await coordination.put(facts(*(f"a{number}" for number in range(2000)), ttl=0.001))
    await until(lambda: client.dbsize() == len(names) + 1)

    for number in range(2000):
        await coordination.incr(f"count.{number % 10}", ttl=60.0)

    # Each write looks at three, and the fewer are left, the fewer it finds: none in the end, on average.
    assert client.zcard("asyncq.fact_names") < len(names) + 10 + 100
    assert len(await coordination.scan("lasting.")) == len(names)


async def test_a_server_without_room_still_coordinates() -> None:
    with RedisServer() as server:
        environment = system_environment()
        broker = RedisBroker(DriverConfig(url=server.url(), app="tests", environment=environment))
        await broker.open()
        try:
            server.command("CONFIG", "SET", "maxmemory", "1")
            assert server.command("SET", "a", "1").startswith(b"-OOM")

            await use_all(broker.coordination)

            assert [name for name, _ in await broker.coordination.scan("")] == ["b", "c", "count", "d"]
        finally:
            await broker.close()
