"""Facts: written, found, compared, counted, and forgotten in time; each step atomic, whoever else is at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asyncq.driver import Coordination, Fact
from asyncq.testing._coordination_kit import LONG, CoordinationFixtures, get, gone, put
from asyncq.testing._kit import wall, within

#: Seconds: long enough to be seen, short enough to wait for.
SHORT = 0.3

#: How much less than its time a fact may live, in seconds: servers count it in milliseconds, on a clock of their own.
EARLY = 0.01

#: How many race.
CROWD = 50


class Facts(CoordinationFixtures):
    async def test_what_is_put_is_found_by_everybody(self, crowd: list[Coordination], key: str) -> None:
        values = {f"{key}/text": b"text", f"{key}/binary": bytes(range(256)), f"{key}/empty": b""}
        facts = [Fact(key=name, value=value, ttl=LONG) for name, value in values.items()]

        assert await within(crowd[0].put(facts)) == [True, True, True]

        for coordination in crowd:
            assert await within(coordination.get(list(values))) == list(values.values())

    async def test_get_answers_in_order(self, coordination: Coordination, key: str) -> None:
        await put(coordination, f"{key}.a", b"a")
        await put(coordination, f"{key}.b", b"b")

        found = await within(coordination.get([f"{key}.b", f"{key}.none", f"{key}.a", f"{key}.b"]))

        assert found == [b"b", None, b"a", b"b"]

    async def test_nothing_asked_nothing_done(self, coordination: Coordination) -> None:
        assert await within(coordination.put([])) == []
        assert await within(coordination.put([], if_absent=True)) == []
        assert await within(coordination.get([])) == []
        assert await within(coordination.delete([])) == 0

    async def test_the_later_one_wins(self, coordination: Coordination, key: str) -> None:
        await put(coordination, key, b"before")
        facts = [Fact(key=key, value=value, ttl=LONG) for value in (b"1", b"2", b"3")]

        assert await within(coordination.put(facts)) == [True, True, True]

        assert await get(coordination, key) == b"3"

    async def test_if_absent_the_first_one_wins(self, coordination: Coordination, key: str) -> None:
        """Within a batch too, and what is taken doesn't stop the others."""
        taken, free = f"{key}.taken", f"{key}.free"
        await put(coordination, taken, b"0")
        facts = [Fact(key=name, value=value, ttl=LONG) for name, value in ((free, b"1"), (taken, b"2"), (free, b"3"))]

        assert await within(coordination.put(facts, if_absent=True)) == [True, False, False]

        assert await within(coordination.get([taken, free])) == [b"0", b"1"]

    async def test_a_big_batch(self, coordination: Coordination, key: str) -> None:
        facts = [Fact(key=f"{key}.{number}", value=b"%d" % number, ttl=LONG) for number in range(700)]
        names = [fact.key for fact in facts]

        assert await within(coordination.put(facts, if_absent=True)) == [True] * 700
        assert await within(coordination.put(facts, if_absent=True)) == [False] * 700
        assert await within(coordination.get(names)) == [fact.value for fact in facts]
        assert await within(coordination.delete(names)) == 700
        assert await within(coordination.get(names)) == [None] * 700

    async def test_a_fact_is_forgotten_in_time(self, coordination: Coordination, key: str) -> None:
        await put(coordination, f"{key}.stays", b"stays")
        before = wall()
        await put(coordination, key, b"goes", ttl=SHORT)

        await gone(coordination, key)

        assert wall() - before >= SHORT - EARLY, "early"
        assert await within(coordination.scan(key)) == [(f"{key}.stays", b"stays")]
        assert await within(coordination.delete([key])) == 0
        assert await put(coordination, key, b"anew", if_absent=True)

    @pytest.mark.parametrize("ttl", [0.001, 1e-9])
    async def test_however_short_its_time(self, coordination: Coordination, key: str, ttl: float) -> None:
        assert await put(coordination, key, b"", ttl=ttl)
        assert await within(coordination.incr(f"{key}.count", ttl=ttl)) == 1

        await gone(coordination, key)
        await gone(coordination, f"{key}.count")

    async def test_put_sets_the_time_anew(self, coordination: Coordination, key: str) -> None:
        witness = f"{key}.witness"
        await put(coordination, key, b"1", ttl=SHORT)
        await put(coordination, key, b"1")
        await put(coordination, witness, b"", ttl=SHORT)

        await gone(coordination, witness)

        assert await get(coordination, key) == b"1"
        await put(coordination, key, b"1", ttl=SHORT)
        await gone(coordination, key)

    async def test_what_loses_changes_no_time(self, coordination: Coordination, key: str) -> None:
        await put(coordination, key, b"1", ttl=SHORT)

        assert not await put(coordination, key, b"2", if_absent=True)

        assert await get(coordination, key) in {b"1", None}
        await gone(coordination, key)

    async def test_if_same_only_what_stands_so_is_kept_longer(self, coordination: Coordination, key: str) -> None:
        """What has gone doesn't come back, and what is somebody else's by now is left alone."""
        own, other, gone_ = f"{key}.own", f"{key}.other", f"{key}.gone"
        await put(coordination, own, b"1", ttl=SHORT)
        await put(coordination, other, b"2", ttl=SHORT)
        facts = [Fact(key=name, value=b"1", ttl=LONG) for name in (gone_, own, other)]

        assert await within(coordination.put(facts, if_same=True)) == [False, True, False]
        assert await within(coordination.put([], if_same=True)) == []

        assert await get(coordination, gone_) is None
        await gone(coordination, other)
        assert await get(coordination, own) == b"1"

    async def test_a_race_has_one_winner(self, crowd: list[Coordination], key: str) -> None:
        values = [b"%d" % number for number in range(CROWD)]
        racers = [put(crowd[number % len(crowd)], key, value, if_absent=True) for number, value in enumerate(values)]

        won = await asyncio.gather(*racers)

        assert sum(won) == 1
        assert await get(crowd[0], key) == values[won.index(True)]

    async def test_racing_batches_have_one_winner_a_key(self, crowd: list[Coordination], key: str) -> None:
        """In whatever order a batch names them."""
        names = [f"{key}.{number}" for number in range(20)]
        orders = [names, names[::-1], names[10:] + names[:10]] * 5
        batches = [
            [Fact(key=name, value=b"%d" % number, ttl=LONG) for name in order] for number, order in enumerate(orders)
        ]

        answers = await asyncio.gather(
            *(crowd[number % len(crowd)].put(batch, if_absent=True) for number, batch in enumerate(batches))
        )

        won = [
            (fact.key, fact.value)
            for batch, answer in zip(batches, answers, strict=True)
            for fact, written in zip(batch, answer, strict=True)
            if written
        ]
        assert sorted(won) == await within(crowd[0].scan(key))
        assert len(won) == len(names)

    async def test_delete_tells_how_many(self, coordination: Coordination, key: str) -> None:
        names = [f"{key}.{number}" for number in range(3)]
        for name in names:
            await put(coordination, name, b"")

        assert await within(coordination.delete([*names[:2], f"{key}.none", names[0]])) == 2

        assert await within(coordination.get(names)) == [None, None, b""]

    async def test_delete_if_value(self, coordination: Coordination, key: str) -> None:
        values = {f"{key}.mine": b"mine", f"{key}.other": b"other", f"{key}.prefix": b"min", f"{key}.empty": b""}
        for name, value in values.items():
            await put(coordination, name, value)

        assert await within(coordination.delete(list(values), if_value=b"mine")) == 1
        assert await within(coordination.get(list(values))) == [None, b"other", b"min", b""]
        assert await within(coordination.delete(list(values), if_value=b"")) == 1
        assert await within(coordination.get(list(values))) == [None, b"other", b"min", None]

    async def test_one_of_many_deletes_it(self, crowd: list[Coordination], key: str) -> None:
        await put(crowd[0], key, b"mine")

        deleted = await asyncio.gather(
            *(crowd[number % len(crowd)].delete([key], if_value=b"mine") for number in range(CROWD))
        )

        assert sum(deleted) == 1


class Counters(CoordinationFixtures):
    async def test_counting(self, coordination: Coordination, key: str) -> None:
        assert await within(coordination.incr(key, ttl=LONG)) == 1
        assert await within(coordination.incr(key, by=41, ttl=LONG)) == 42
        assert await get(coordination, key) == b"42"
        assert await within(coordination.incr(key, by=-50, ttl=LONG)) == -8
        assert await within(coordination.incr(key, by=0, ttl=LONG)) == -8
        assert await get(coordination, key) == b"-8"

    async def test_a_counter_is_a_fact(self, coordination: Coordination, key: str) -> None:
        await put(coordination, key, b"7")

        assert await within(coordination.incr(key, ttl=LONG)) == 8
        assert await within(coordination.scan(key)) == [(key, b"8")]
        assert not await put(coordination, key, b"", if_absent=True)
        assert await within(coordination.delete([key], if_value=b"8")) == 1
        assert await within(coordination.incr(key, ttl=LONG)) == 1

    async def test_everybody_counts(self, crowd: list[Coordination], key: str) -> None:
        counts = await asyncio.gather(*(crowd[number % len(crowd)].incr(key, ttl=LONG) for number in range(CROWD)))

        assert sorted(counts) == list(range(1, CROWD + 1))
        assert await get(crowd[0], key) == b"%d" % CROWD

    async def test_counting_renews_the_time(self, coordination: Coordination, key: str) -> None:
        witness = f"{key}.witness"
        await within(coordination.incr(key, ttl=SHORT))
        await within(coordination.incr(key, ttl=LONG))
        await put(coordination, witness, b"", ttl=SHORT)

        await gone(coordination, witness)

        assert await within(coordination.incr(key, ttl=SHORT)) == 3
        await gone(coordination, key)
        assert await within(coordination.incr(key, ttl=LONG)) == 1

    async def test_what_is_no_number_stays(self, coordination: Coordination, key: str) -> None:
        await put(coordination, key, b"many")

        with pytest.raises(ValueError, match=key):
            await within(coordination.incr(key, ttl=LONG))

        assert await get(coordination, key) == b"many"


class Scanning(CoordinationFixtures):
    async def test_in_the_order_of_keys(self, crowd: list[Coordination], key: str) -> None:
        names = [f"{key}{end}" for end in ("", ".b", ".a", ".a.10", ".a.9", ".B", "-", "/", ":", "@", "_", "0", "zz")]
        for name in names:
            await put(crowd[0], name, name.encode())

        expected = [(name, name.encode()) for name in sorted(names)]
        for coordination in crowd:
            assert await within(coordination.scan(key)) == expected

    async def test_a_prefix_means_itself(self, coordination: Coordination, key: str) -> None:
        """No character in it stands for others."""
        for end in ("_a", "-a", ".a", "Aa", "aa", "a"):
            await put(coordination, f"{key}{end}", b"")

        for prefix in (f"{key}_", f"{key}.", f"{key}a", f"{key}A"):
            found = [name for name, _ in await within(coordination.scan(prefix))]
            expected = {"_": ["_a"], ".": [".a"], "a": ["a", "aa"], "A": ["Aa"]}[prefix[-1]]
            assert found == [f"{key}{end}" for end in expected]

    async def test_the_empty_prefix_finds_all(self, coordination: Coordination, key: str) -> None:
        await put(coordination, key, b"1")

        found = await within(coordination.scan(""))

        assert (key, b"1") in found
        assert found == sorted(found)

    async def test_buckets_are_no_facts(self, coordination: Coordination, key: str) -> None:
        await within(coordination.take(key, rate=0.1))

        assert await within(coordination.scan(key)) == []
        assert await within(coordination.get([key])) == [None]
        assert await within(coordination.delete([key])) == 0

    async def test_many(self, coordination: Coordination, key: str) -> None:
        names = [f"{key}.{number:04}" for number in range(1500)]
        await within(coordination.put([Fact(key=name, value=name.encode(), ttl=LONG) for name in reversed(names)]))
        await put(coordination, f"{key}/other", b"")

        found = await within(coordination.scan(f"{key}."))

        assert found == [(name, name.encode()) for name in names]

    async def test_what_is_deleted_or_expired_is_not_found(self, coordination: Coordination, key: str) -> None:
        names = [f"{key}.{number}" for number in range(4)]
        for name in names:
            await put(coordination, name, b"1", ttl=SHORT if name == names[1] else LONG)
        await within(coordination.delete([names[2]]))

        await gone(coordination, names[1])

        assert await within(coordination.scan(key)) == [(names[0], b"1"), (names[3], b"1")]


class Naming(CoordinationFixtures):
    @pytest.mark.parametrize(
        "odd",
        ["", " ", "a b", "a*", "a?", "[a]", "a%", "a\\", "a'", "a\n", "a\0", "\x7f", "ä", "a" * 513],
        ids=ascii,
    )
    async def test_odd_keys_are_refused(self, coordination: Coordination, odd: str) -> None:
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: coordination.put([Fact(key="fine", value=b"", ttl=1.0), Fact(key=odd, value=b"", ttl=1.0)]),
            lambda: coordination.get([odd]),
            lambda: coordination.delete([odd]),
            lambda: coordination.incr(odd, ttl=1.0),
            lambda: coordination.take(odd, rate=1.0),
        ]
        if odd:
            calls.append(lambda: coordination.scan(odd))

        for call in calls:
            with pytest.raises(ValueError, match="key"):
                await within(call())

        assert await within(coordination.get(["fine"])) == [None]

    async def test_any_key_that_is_allowed(self, coordination: Coordination, key: str) -> None:
        longest = f"{key}.:/@-_azAZ09".ljust(512, "x")

        assert await put(coordination, longest, b"1", if_absent=True)

        assert await within(coordination.scan(longest)) == [(longest, b"1")]
        assert await within(coordination.delete([longest])) == 1

    @pytest.mark.parametrize("ttl", [0.0, -1.0, float("nan"), float("inf")])
    async def test_odd_times_are_refused(self, coordination: Coordination, key: str, ttl: float) -> None:
        with pytest.raises(ValueError, match="time to live"):
            await put(coordination, key, b"", ttl=ttl)
        with pytest.raises(ValueError, match="time to live"):
            await within(coordination.incr(key, ttl=ttl))
