"""Facts that workers and clients share, in the table beside the results (`asyncq.driver.Coordination`).

DynamoDB has no clock to ask: times are those of the machines, as AWS keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asyncq.driver import Coordination, Environment, Fact
from asyncq_brokers._clients.aws import AwsLink, Refusal
from asyncq_brokers._clients.coordination import (
    check_bucket,
    check_facts,
    check_keys,
    check_prefix,
    check_ttl,
    reserve,
)

from .batches import read_items, write_items
from .items import Item
from .table import TTL, SharedTable
from .writing import Write, Writer, seconds, stored

__all__ = ["DynamoCoordination"]


class DynamoCoordination:
    """Items of two partitions: facts, and buckets. Counters are facts whose value DynamoDB keeps as a number."""

    def __init__(self, link: AwsLink, environment: Environment, *, table: SharedTable, prefix: str) -> None:
        self._link = link
        self._environment = environment
        self._clock = environment.clock
        self._table = table
        self._facts = f"{prefix}asyncq.facts"
        self._buckets = f"{prefix}asyncq.buckets"
        self._writer = Writer(link, environment, table.name)

    async def put(self, facts: Sequence[Fact], *, if_absent: bool = False, if_same: bool = False) -> list[bool]:
        check_facts(facts)
        await self._table.ready()
        if not if_absent and not if_same:
            requests = {fact.key: {"PutRequest": {"Item": self._item(fact)}} for fact in facts}  # the later one wins
            await write_items(self._link, self._environment.random, self._table.name, list(requests.values()))
            return [True] * len(facts)
        condition = _GONE if if_absent else "#value = :value AND #expires > :now"
        written = [False] * len(facts)
        left: list[int] = list(range(len(facts)))
        while left:  # facts of one key in order: each round has the first of each key
            turn: dict[str, int] = {facts[position].key: position for position in reversed(left)}
            left = [position for position in left if turn[facts[position].key] != position]
            writes = [
                Write(
                    "put",
                    condition,
                    {} if if_absent else {":value": stored(facts[position].value)},
                    item=self._item(facts[position]),
                )
                for position in turn.values()
            ]
            for position, done in zip(turn.values(), await self._writer.write(writes), strict=True):
                written[position] = done
        return written

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        check_keys(keys)
        await self._table.ready()
        wanted = [self._key(self._facts, key) for key in dict.fromkeys(keys)]
        items = await read_items(self._link, self._environment.random, self._table.name, wanted, consistent=True)
        now = self._clock.wall()
        found = {str(item["key"]["S"]): _value(item) for item in items if _lives(item, now)}
        return [found.get(key) for key in keys]

    async def delete(self, keys: Sequence[str], *, if_value: bytes | None = None) -> int:
        check_keys(keys)
        await self._table.ready()
        condition, values = "#expires > :now", Item()
        if if_value is not None:
            condition, values = f"{condition} AND #value = :value", {":value": stored(if_value)}

        writes = [Write("delete", condition, values, item=self._key(self._facts, key)) for key in dict.fromkeys(keys)]
        return sum(await self._writer.write(writes))

    async def incr(self, key: str, *, by: int = 1, ttl: float) -> int:
        check_keys([key])
        check_ttl(ttl)
        await self._table.ready()
        while True:
            expires = self._clock.wall() + ttl
            values: Item = {":by": {"N": str(by)}, ":expires": seconds(expires), ":ttl": _whole(expires)}
            try:
                answer = await self._writer.change(
                    "update_item",
                    "#expires > :now",
                    values,
                    Key=self._key(self._facts, key),
                    UpdateExpression="SET #expires = :expires, #ttl = :ttl ADD #value :by",
                    ReturnValues="ALL_NEW",
                )
            except Refusal as refusal:
                if refusal.code == "ValidationException":
                    raise ValueError(f"the fact {key!r} holds no number") from None
                raise self._link.translated(refusal) from refusal
            if answer is not None:
                return int(answer["Attributes"]["value"]["N"])
            # There is none, or none any more: the first number is the one that is added.
            fresh = self._item(Fact(key=key, value=b"%d" % by, ttl=ttl))
            if await self._writer.change("put_item", _GONE, {}, Item=fresh) is not None:
                return by

    async def take(self, bucket: str, *, rate: float, capacity: float = 1.0) -> float:
        check_bucket(bucket, rate=rate, capacity=capacity)
        await self._table.ready()
        key = self._key(self._buckets, bucket)
        while True:
            now = self._clock.wall()
            # A bucket is one time, at which it will be full (see `reserve`). One that is full by now begins anew;
            # where somebody else was there before, that time moves on, whatever it has become meanwhile.
            _, fresh = reserve(None, now, rate=rate, capacity=capacity)
            begun = {**key, "expires": seconds(fresh), TTL: _whole(fresh)}
            if await self._writer.change("put_item", _GONE, {}, Item=begun) is not None:
                return reserve(None, now, rate=rate, capacity=capacity)[0]
            answer = await self._writer.change(
                "update_item",
                "#expires > :now",
                {":step": seconds(1 / rate), ":ttl_step": _whole(1 / rate)},
                Key=key,
                UpdateExpression="SET #expires = #expires + :step, #ttl = #ttl + :ttl_step",
                ReturnValues="UPDATED_NEW",
            )
            if answer is not None:
                full_at = float(answer["Attributes"]["expires"]["N"]) - 1 / rate
                return reserve(full_at, now, rate=rate, capacity=capacity)[0]

    async def scan(self, prefix: str) -> list[tuple[str, bytes]]:
        check_prefix(prefix)
        await self._table.ready()
        found: list[tuple[str, bytes]] = []
        condition, names, values = "#space = :space", {"#space": "space"}, {":space": {"S": self._facts}}
        if prefix:
            condition += " AND begins_with(#key, :prefix)"
            names["#key"] = "key"
            values[":prefix"] = {"S": prefix}
        further: dict[str, Any] = {}
        while True:
            answer = await self._link.ask(
                "query",
                harmless=True,
                TableName=self._table.name,
                ConsistentRead=True,
                KeyConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                **further,
            )
            now = self._clock.wall()
            found += [(str(item["key"]["S"]), _value(item)) for item in answer["Items"] if _lives(item, now)]
            if "LastEvaluatedKey" not in answer:
                return found
            further = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _key(self, space: str, key: str) -> Item:
        return {"space": {"S": space}, "key": {"S": key}}

    def _item(self, fact: Fact) -> Item:
        expires = self._clock.wall() + fact.ttl
        return {
            **self._key(self._facts, fact.key),
            "value": stored(fact.value),
            "expires": seconds(expires),
            TTL: _whole(expires),
        }


_GONE = "attribute_not_exists(#expires) OR #expires <= :now"


def _value(item: Item) -> bytes:
    value: Item = item["value"]
    return str(value["N"]).encode() if "N" in value else bytes(value["B"])


def _lives(item: Item, now: float) -> bool:
    return float(item["expires"]["N"]) > now


def _whole(number: float) -> Item:
    """Whole seconds, as DynamoDB's own deletion wants them; later rather than sooner."""
    return {"N": str(math.ceil(number))}


if TYPE_CHECKING:
    _coordination: type[Coordination] = DynamoCoordination
