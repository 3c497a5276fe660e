"""Chords as Celery 5.7 keeps them on Redis: its keys, members and lives, and two keys of asyncq's own."""

from __future__ import annotations

from typing import Any

import pytest

import golden
from asyncq._clock import new_id, system_environment
from asyncq.driver import CLAIM, ChordClaim, ChordOpening, ChordPart, DriverConfig
from asyncq.errors import BackendError, ConfigurationError
from asyncq.protocol import SavedGroup, decode_part, encode_group
from asyncq_backends.redis import RedisBackend
from redis_kit import Client, NewBackend
from servers import RedisServer
from waiting import until

DAY = 86400.0
BODY = b'{"body": {}}'


def keys_of(fixture: str) -> dict[str, Any]:
    """The chord's keys in a capture of Celery's, records left out."""
    keys = golden.load("results", fixture)["redis_keys"]
    return {key: stored for key, stored in keys.items() if "taskset" in key}


def look(client: Client) -> dict[str, Any]:
    """What stands in the database, as the captures have it; asyncq's own keys left out."""
    found: dict[str, Any] = {}
    for key in sorted(name.decode() for name in client.keys("*")):
        kind = client.type(key).decode()
        value: Any = None
        if kind == "string":
            value = client.get(key).decode()
        elif kind == "set":
            value = sorted(member.decode() for member in client.smembers(key))
        elif kind == "list":
            value = [member.decode() for member in client.lrange(key, 0, -1)]
        elif kind == "zset":
            value = [[member.decode(), score] for member, score in client.zrange(key, 0, -1, withscores=True)]
        if "asyncq" not in key:
            found[key] = {"type": kind, "ttl": client.ttl(key), "value": value}
    return found


def same_keys(found: dict[str, Any], captured: dict[str, Any]) -> bool:
    """The same names, types and values, and lives that differ by the seconds that a test takes."""
    assert found.keys() == captured.keys()
    for key, stored in captured.items():
        assert found[key]["type"] == stored["type"]
        assert found[key]["value"] == stored["value"] or key.endswith(".c"), key
        assert key.endswith(".c") or stored["ttl"] - 60 <= found[key]["ttl"] <= stored["ttl"] + 2, key
    return True


def parts_of(captured: dict[str, Any]) -> list[ChordPart]:
    """The parts that a capture has, with asyncq's body."""
    (group,) = {key.partition("celery-taskset-meta-")[2].rpartition(".")[0] for key in captured}
    (members,) = (stored["value"] for key, stored in captured.items() if key.endswith(".j"))
    texts = [(member if isinstance(member, str) else member[0]) for member in members]
    return [
        ChordPart(
            group_id=group,
            task_id=decode_part(text.encode()).task_id,
            index=index,
            member=text.encode(),
            body=BODY,
            expires=DAY,
        )
        for index, text in enumerate(texts)
    ]


def part(group: str, index: int, *, expires: float | None = DAY) -> ChordPart:
    member = f'[1, "{group}-{index}", "SUCCESS", {index}]'.encode()
    return ChordPart(group_id=group, task_id=f"{group}-{index}", index=index, member=member, body=BODY, expires=expires)


async def open_chord(backend: RedisBackend, group: str, size: int, *, expires: float | None = DAY) -> None:
    await backend.chords.open([ChordOpening(group_id=group, size=size, expires=expires)])


async def complete(backend: RedisBackend, group: str, size: int = 2, *, lease: float = 6.0) -> ChordClaim:
    await open_chord(backend, group, size)
    (claim,) = await backend.chords.join([part(group, index) for index in range(size)], lease=lease)
    return claim


# -- beside Celery's captures --------------------------------------------------------------------------------


async def test_a_chord_half_done_looks_as_celerys(backend: RedisBackend, client: Client) -> None:
    captured = keys_of("chord-intermediate-keys")
    parts = parts_of(captured)
    await open_chord(backend, parts[0].group_id, 2)

    assert await backend.chords.join(parts) == []

    assert same_keys(look(client), captured)


async def test_a_chord_whose_body_was_sent_looks_as_celerys(backend: RedisBackend, client: Client) -> None:
    captured = keys_of("chord-after")
    (group,) = {key.partition("celery-taskset-meta-")[2].removesuffix(".c") for key in captured}
    claim = await complete(backend, group)
    assert await backend.chords.renew(claim)
    assert 6 < client.ttl(f"celery-taskset-meta-{group}.c") <= 21

    await backend.chords.close(claim)

    assert same_keys(look(client), captured)
    assert client.get(f"celery-taskset-meta-{group}.c") == b"done"
    assert 21 < client.ttl(f"celery-taskset-meta-{group}.c") <= captured[f"celery-taskset-meta-{group}.c"]["ttl"] + 1
    assert client.keys("*asyncq*") == []
    await open_chord(backend, group, 2)
    await backend.chords.grow(group, 1, name="more", expires=DAY)
    assert same_keys(look(client), captured), "sent again by a step that was delivered again"


@pytest.mark.parametrize(("ordered", "fixture"), [(True, "chord-header-failure"), (False, "chord-unordered")])
async def test_a_chord_that_is_claimed_looks_as_celerys(
    new_backend: NewBackend, client: Client, ordered: bool, fixture: str
) -> None:
    """The captures are of failures, where Celery deletes the size alone."""
    backend = await new_backend(result_chord_ordered=ordered)
    captured = keys_of(fixture)
    parts = parts_of(captured)
    await open_chord(backend, parts[0].group_id, len(parts))

    (claim,) = await backend.chords.join(parts, lease=600.0)

    assert captured[f"celery-taskset-meta-{claim.group_id}.c"]["ttl"] == CLAIM
    client.delete(f"celery-taskset-meta-{claim.group_id}.s")
    assert same_keys(look(client), captured)
    assert client.get(f"celery-taskset-meta-{claim.group_id}.c").decode() == claim.token
    assert [list(batch) async for batch in backend.chords.members(claim)] == [[each.member for each in parts]]


async def test_a_chord_that_is_not_ordered_has_its_members_as_they_came(new_backend: NewBackend) -> None:
    backend = await new_backend(result_chord_ordered="false")
    await open_chord(backend, "g", 3)

    (claim,) = await backend.chords.join([part("g", index) for index in (2, 0, 1, 0)])

    (members,) = [batch async for batch in backend.chords.members(claim)]
    assert [decode_part(member).result for member in members] == [2, 0, 1]


async def test_celerys_token_is_left_alone_and_its_done_marker_obeyed(backend: RedisBackend, client: Client) -> None:
    await open_chord(backend, "g", 1)
    client.set("celery-taskset-meta-g.c", "0123", ex=60)

    assert await backend.chords.join([part("g", 0)]) == []
    await open_chord(backend, "g", 1)
    assert client.get("celery-taskset-meta-g.c") == b"0123"

    client.set("celery-taskset-meta-g.c", "done", ex=300)
    await open_chord(backend, "other", 1)
    assert await backend.chords.join([part("g", 1)]) == []
    assert client.zcard("celery-taskset-meta-g.j") == 1


async def test_a_member_that_celery_has_counted_is_not_counted_again(backend: RedisBackend, client: Client) -> None:
    await open_chord(backend, "g", 2)
    client.zadd("celery-taskset-meta-g.j", {part("g", 0).member: 0})
    client.sadd("celery-taskset-meta-g.d", f"{part('g', 0).task_id}:0")

    assert await backend.chords.join([part("g", 0)]) == []
    assert len(await backend.chords.join([part("g", 1)])) == 1


async def test_growth_is_celerys_counter(backend: RedisBackend, client: Client) -> None:
    client.incr("celery-taskset-meta-g.t")
    await backend.chords.grow("g", 2, name="more", expires=60.0)
    await open_chord(backend, "g", 1)

    assert client.get("celery-taskset-meta-g.t") == b"3"
    assert 50 <= client.ttl("celery-taskset-meta-g.t") <= 60
    assert await backend.chords.join([part("g", index) for index in range(3)]) == []
    assert len(await backend.chords.join([part("g", 3)])) == 1


async def test_a_saved_header_is_celerys_key(backend: RedisBackend, client: Client) -> None:
    saved = encode_group(SavedGroup(group_id="g", members=["a", SavedGroup(group_id="h", members=["b"])]))
    await backend.chords.open([ChordOpening(group_id="g", size=2, saved=saved, expires=DAY)])

    assert client.get("celery-taskset-meta-g") == saved
    assert DAY - 20 <= client.ttl("celery-taskset-meta-g") <= DAY


@pytest.mark.parametrize(("prefix", "stored"), [("team1", "team1_"), ("team1:", "team1:")])
async def test_the_prefix_stands_before_every_key(
    new_backend: NewBackend, client: Client, prefix: str, stored: str
) -> None:
    backend = await new_backend(global_keyprefix=prefix)
    claim = await complete(backend, "g", lease=0.001)
    await backend.chords.grow("g", 0, name="more", expires=DAY)

    names = {name.decode() for name in client.keys("*")}

    assert {f"{stored}celery-taskset-meta-g.j", f"{stored}asyncq.chord.g", f"{stored}asyncq.chords"} < names
    assert all(name.startswith(stored) for name in names)
    await backend.chords.close(claim)
    assert [name.decode() for name in client.keys("*")] == [f"{stored}celery-taskset-meta-g.c"]


@pytest.mark.parametrize("value", ["yes", 1, None])
async def test_what_is_no_answer_to_ordered_is_refused(new_backend: NewBackend, value: object) -> None:
    with pytest.raises(ConfigurationError, match="must be True or False"):
        await new_backend(result_chord_ordered=value)


# -- lives ---------------------------------------------------------------------------------------------------


async def test_every_key_has_a_life_and_a_part_renews_it(backend: RedisBackend, client: Client) -> None:
    await open_chord(backend, "g", 3, expires=100.0)
    await backend.chords.grow("g", 1, name="more", expires=100.0)
    await backend.chords.join([part("g", 0, expires=100.0)])
    assert {50 < client.ttl(name) <= 100 for name in client.keys("*")} == {True}

    await backend.chords.join([part("g", 1, expires=DAY)])

    assert {DAY - 50 < client.ttl(name) <= DAY for name in client.keys("*")} == {True}
    await open_chord(backend, "other", 1, expires=100.0)
    await backend.chords.join([part("other", 0, expires=100.0)])
    assert client.ttl("asyncq.chords") > DAY - 50, "the list of chords lives as long as the longest-lived"


async def test_what_shall_live_for_ever_does(backend: RedisBackend, client: Client) -> None:
    await backend.chords.join([part("short", 0, expires=100.0)])
    await open_chord(backend, "g", 2, expires=None)
    await backend.chords.join([part("g", 0, expires=None)])

    assert {client.ttl(name) for name in client.keys("*") if b"short" not in name} == {-1}


async def test_what_has_expired_is_forgotten_at_the_next_look(backend: RedisBackend, client: Client) -> None:
    await complete(backend, "g", lease=0.001)
    client.delete("asyncq.chord.g")
    client.zadd("asyncq.chords", {"g": 0})

    assert await backend.chords.overdue(10) == []

    assert client.zcard("asyncq.chords") == 0


async def test_a_chord_that_celery_completed_and_left_is_found_a_minute_later(
    backend: RedisBackend, client: Client
) -> None:
    await open_chord(backend, "g", 2)
    await backend.chords.join([part("g", 0)])
    client.zadd("celery-taskset-meta-g.j", {part("g", 1).member: 1})
    client.sadd("celery-taskset-meta-g.d", f"{part('g', 1).task_id}:1")
    assert await backend.chords.overdue(10) == []
    (at,) = client.zrange("asyncq.chords", 0, -1, withscores=True)
    assert 0 < at[1] / 1000 - client.time()[0] <= 61

    client.zadd("asyncq.chords", {"g": 0})  # the minute has gone by

    (claim,) = await backend.chords.overdue(10)
    assert client.get("celery-taskset-meta-g.c").decode() == claim.token


async def test_a_look_takes_no_claim_away(backend: RedisBackend, client: Client) -> None:
    """Celery's workers take claims too, and tell our list nothing."""
    claim = await complete(backend, "g", lease=60.0)
    client.zadd("asyncq.chords", {"g": 0})

    assert await backend.chords.overdue(10) == []

    assert client.get("celery-taskset-meta-g.c").decode() == claim.token
    (at,) = client.zrange("asyncq.chords", 0, -1, withscores=True)
    assert 0 < at[1] / 1000 - client.time()[0] <= 61


async def test_what_celery_has_ended_is_forgotten_at_the_next_look(backend: RedisBackend, client: Client) -> None:
    await open_chord(backend, "g", 2)
    await backend.chords.join([part("g", 0)])
    client.set("celery-taskset-meta-g.c", "done", ex=300)
    client.zadd("asyncq.chords", {"g": 0})

    assert await backend.chords.overdue(10) == []

    assert client.keys("*asyncq*") == []


async def test_more_chords_are_looked_at_than_one_script_looks_at(backend: RedisBackend, client: Client) -> None:
    waiting = [f"waiting-{number:03}" for number in range(450)]
    await backend.chords.join([part(group, 0) for group in waiting])
    await complete(backend, "z", lease=0.001)
    client.zadd("asyncq.chords", dict.fromkeys(waiting, 0))
    client.zadd("asyncq.chords", {"z": 1})
    client.delete("celery-taskset-meta-z.c")

    assert [claim.group_id for claim in await backend.chords.overdue(1)] == ["z"]


# -- refusals ------------------------------------------------------------------------------------------------


async def test_what_is_no_chord_is_a_backend_error_and_others_are_counted(
    backend: RedisBackend, client: Client
) -> None:
    client.set("celery-taskset-meta-bad.d", "no set")
    await open_chord(backend, "good", 2)

    with pytest.raises(BackendError, match="WRONGTYPE"):
        await backend.chords.join([part("bad", 0), part("good", 0)])

    assert len(await backend.chords.join([part("good", 1)])) == 1


async def test_a_claim_that_an_error_kept_from_its_caller_is_given_when_he_asks_again(
    new_backend: NewBackend, client: Client
) -> None:
    backend, other = await new_backend(), await new_backend()
    client.set("celery-taskset-meta-bad.d", "no set")
    await open_chord(backend, "good", 1)
    with pytest.raises(BackendError, match="WRONGTYPE"):
        await backend.chords.join([part("good", 0), part("bad", 0)])
    token = client.get("celery-taskset-meta-good.c").decode()

    assert await other.chords.join([part("good", 0)]) == []
    (claim,) = await backend.chords.join([part("good", 0)])

    assert claim.token == token
    assert await backend.chords.join([part("good", 0)]) == [], "once"


async def test_a_full_server_completes_chords(own_server: RedisServer) -> None:
    backend = RedisBackend(DriverConfig(url=own_server.url(), app="tests", environment=system_environment()))
    groups = [new_id() for _ in range(3)]
    for group in groups:
        await open_chord(backend, group, 2)
    await backend.chords.join([part(groups[0], 0)])
    own_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        claims = await backend.chords.join([part(group, index) for group in groups for index in (0, 1)], lease=0.001)
        assert len(claims) == 3
        assert await backend.chords.renew(claims[0])
        await backend.chords.close(claims[0])
        found: set[str] = set()

        async def look() -> bool:
            found.update(claim.group_id for claim in await backend.chords.overdue(10))
            return found.issuperset(groups[1:])

        await until(look)
        await backend.chords.grow(groups[1], 1, name="more", expires=DAY)
        await open_chord(backend, new_id(), 1)
    finally:
        own_server.command("CONFIG", "SET", "maxmemory", "0")
        await backend.close()
