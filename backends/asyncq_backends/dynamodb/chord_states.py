"""What is known of each chord: an item whose every change has a condition. And the list of those that were claimed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from asyncq.driver import ChordClaim, ChordOpening, ChordPart, Environment
from asyncq_brokers._clients.aws import AwsLink, Refusal

from .items import MAX_RECORD_BYTES, Item
from .table import TTL

__all__ = ["FOR_EVER", "ChordState", "ChordStates", "expiry", "names_in"]

#: UNIX seconds: when what shall live for ever expires.
FOR_EVER = float(2**40)

#: Chords that one look for overdue ones sees.
_LOOKS = 200

#: Bytes of a body that is kept; there must be room for the rest of the item.
_MOST_BODY = MAX_RECORD_BYTES - 8 * 1024

#: The key in a chord's partition.
_STATE = "state"

_ALIVE = "(attribute_not_exists(#expires) OR #expires > :now)"
_OPEN = f"attribute_not_exists(#closed) AND {_ALIVE}"


class ChordState(Struct, frozen=True, kw_only=True):
    """What is known of a chord. Times are UNIX seconds."""

    #: Parts to expect, growth included; None before it is opened.
    size: int | None
    #: Empty where an item is too small for it.
    body: bytes
    #: Whether its header was saved.
    saved: bool
    token: str | None
    #: End of the last claim.
    until: float
    closed: bool
    expires: float

    @classmethod
    def of(cls, item: Item) -> ChordState:
        size = item.get("size")
        return cls(
            size=None if size is None else int(size["N"]) + int(item.get("added", {}).get("N", 0)),
            body=bytes(item.get("body", {}).get("B", b"")),
            saved="saved" in item,
            token=item.get("token", {}).get("S"),
            until=float(item.get("until", {}).get("N", 0)),
            closed="closed" in item,
            expires=float(item["expires"]["N"]),
        )


class ChordStates:
    """Each method is one request, and one atomic change."""

    def __init__(self, link: AwsLink, environment: Environment, *, table: str, prefix: str) -> None:
        self._link = link
        self._clock = environment.clock
        self._table = table
        self._chord = f"{prefix}asyncq.chord."
        self._claimed = f"{prefix}asyncq.chords"

    async def get(self, group_id: str) -> ChordState | None:
        """None of a chord that has expired, and where there is none."""
        key = self._key(group_id)
        answer = await self._link.ask("get_item", harmless=True, TableName=self._table, Key=key, ConsistentRead=True)
        found = ChordState.of(answer["Item"]) if "Item" in answer else None
        return None if found is None or found.expires <= self._clock.wall() else found

    async def open(self, opening: ChordOpening, *, saved: bool) -> ChordState | None:
        """None where it was closed moments ago, or has expired."""
        changes, values = ["#size = :size"], Item({":size": {"N": str(opening.size)}})
        if saved:
            changes.append("#saved = :saved")
            values[":saved"] = {"BOOL": True}
        return await self._change(opening.group_id, changes, values, _OPEN, harmless=True, expires=(opening.expires,))

    async def set_size(self, group_id: str, size: int) -> ChordState | None:
        """Of a chord whose header somebody else has saved."""
        values: Item = {":size": {"N": str(size)}, ":saved": {"BOOL": True}}
        return await self._change(group_id, ["#size = :size", "#saved = :saved"], values, _OPEN, harmless=True)

    async def claim(self, group_id: str, token: str, lease: float) -> ChordState | None:
        """None where somebody else has the claim, or it is closed."""
        values: Item = {":token": {"S": token}, ":until": _number(self._clock.wall() + lease)}
        condition = f"{_OPEN} AND (attribute_not_exists(#until) OR #until <= :now)"
        return await self._change(group_id, ["#token = :token", "#until = :until"], values, condition)

    async def renew(self, claim: ChordClaim, lease: float) -> ChordState | None:
        """None where somebody else has the claim, or it is closed."""
        values: Item = {":token": {"S": claim.token}, ":until": _number(self._clock.wall() + lease)}
        condition = f"{_OPEN} AND #token = :token"
        return await self._change(claim.group_id, ["#until = :until"], values, condition, harmless=True)

    async def close(self, claim: ChordClaim, remembered: float) -> ChordState | None:
        """The state as it was before; None where somebody else has the claim. May be called again."""
        values: Item = {":token": {"S": claim.token}, ":closed": {"BOOL": True}}
        return await self._change(
            claim.group_id,
            ["#closed = :closed"],
            values,
            f"{_ALIVE} AND #token = :token",
            harmless=True,
            expires=(remembered,),
            returned="ALL_OLD",
        )

    async def forget_if_expired(self, group_id: str) -> bool:
        """DynamoDB deletes what has expired days later."""
        try:
            await self._link.call(
                "delete_item",
                TableName=self._table,
                Key=self._key(group_id),
                ConditionExpression="#expires <= :now",
                ExpressionAttributeNames=names_in("#expires"),
                ExpressionAttributeValues={":now": _number(self._clock.wall())},
            )
        except Refusal as refusal:
            if refusal.code == "ConditionalCheckFailedException":
                return False
            raise self._link.translated(refusal) from refusal
        return True

    def keeping(self, part: ChordPart) -> Item:
        """An update, for a transaction: the chord is open, and lives on for a part's sake."""
        body = part.body if len(part.body) <= _MOST_BODY else b""
        change = "#body = if_not_exists(#body, :body)"
        return self._while_open(part.group_id, change, {":body": {"B": body}}, part.expires)

    def growing(self, group_id: str, by: int, expires: float | None) -> Item:
        """The same for more parts to expect."""
        values: Item = {":by": {"N": str(by)}, ":zero": {"N": "0"}}
        return self._while_open(group_id, "#added = if_not_exists(#added, :zero) + :by", values, expires)

    def _while_open(self, group_id: str, change: str, values: Item, expires: float | None) -> Item:
        now = self._clock.wall()
        attributes, further = expiry(expires, now)
        update = f"SET {change}, {attributes}"
        return {
            "TableName": self._table,
            "Key": self._key(group_id),
            "UpdateExpression": update,
            "ConditionExpression": _OPEN,
            "ExpressionAttributeNames": names_in(update, _OPEN),
            "ExpressionAttributeValues": {**values, **further, ":now": _number(now)},
        }

    # -- the list of those that were claimed ---------------------------------------------------------------------

    async def listed(self) -> list[str]:
        """Group ids of some chords that were claimed and not closed."""
        answer = await self._link.ask(
            "query",
            harmless=True,
            TableName=self._table,
            Limit=_LOOKS,
            ConsistentRead=True,
            KeyConditionExpression="#space = :space",
            ExpressionAttributeNames=names_in("#space"),
            ExpressionAttributeValues={":space": {"S": self._claimed}},
        )
        return [str(item["key"]["S"]) for item in answer["Items"]]

    async def enlist(self, group_id: str, expires: float) -> None:
        item = {**self._listed_key(group_id), "expires": _number(expires), TTL: _whole(expires)}
        await self._link.ask("put_item", harmless=True, TableName=self._table, Item=item)

    async def unlist(self, group_id: str) -> None:
        await self._link.ask("delete_item", harmless=True, TableName=self._table, Key=self._listed_key(group_id))

    # -- requests ------------------------------------------------------------------------------------------------

    async def _change(
        self,
        group_id: str,
        changes: Sequence[str],
        values: Item,
        condition: str,
        *,
        harmless: bool = False,
        expires: tuple[float | None] | None = None,
        returned: str = "ALL_NEW",
    ) -> ChordState | None:
        """Change a state if the condition holds; else None. `expires` is its life in seconds, where that changes."""
        now = self._clock.wall()
        attributes, further = ("", Item()) if expires is None else expiry(expires[0], now)
        update = f"SET {', '.join(filter(None, [*changes, attributes]))}"
        try:
            answer: dict[str, Any] = await self._link.call(
                "update_item",
                harmless=harmless,
                TableName=self._table,
                Key=self._key(group_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names_in(update, condition),
                ExpressionAttributeValues={**values, **further, ":now": _number(now)},
                ReturnValues=returned,
            )
        except Refusal as refusal:
            if refusal.code == "ConditionalCheckFailedException":
                return None
            raise self._link.translated(refusal) from refusal
        return ChordState.of(answer["Attributes"])

    def _key(self, group_id: str) -> Item:
        return {"space": {"S": self._chord + group_id}, "key": {"S": _STATE}}

    def _listed_key(self, group_id: str) -> Item:
        return {"space": {"S": self._claimed}, "key": {"S": group_id}}


def expiry(expires: float | None, now: float) -> tuple[str, Item]:
    """What an update sets for a life of so many seconds, and the values."""
    end = FOR_EVER if expires is None else now + expires
    return f"#expires = :expires, #{TTL} = :ttl", {":expires": _number(end), ":ttl": _whole(end)}


def names_in(*texts: str) -> dict[str, str]:
    """The attributes that stand in expressions: some of their names are words of DynamoDB's own."""
    return {found: found[1:] for text in texts for found in re.findall(r"#\w+", text)}


def _number(number: float) -> Item:
    return {"N": repr(number)}


def _whole(number: float) -> Item:
    return {"N": str(math.ceil(number))}
