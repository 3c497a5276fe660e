"""Writes under a condition: item by item, since DynamoDB's batches know none, and its transactions cost twice that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from asyncq.driver import Environment
from asyncq_brokers._clients.aws import AwsLink, Refusal, together

from .items import Item
from .table import TTL

__all__ = ["Write", "Writer", "seconds", "stored"]

#: Writes at the same time.
_AT_A_TIME = 16

#: What DynamoDB keeps as a number and gives back as the same text.
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,36}")

_NAMES = {"#key": "key", "#value": "value", "#expires": "expires", "#ttl": TTL}


class Write(Struct, frozen=True):
    """One item that is put, or deleted, if a condition holds."""

    kind: Literal["put", "delete"]
    condition: str
    #: What stands in the condition, `:now` aside.
    values: Item
    #: The item, or the key of what is to be deleted.
    item: Item

    @property
    def parameter(self) -> dict[str, Item]:
        """As the API has it."""
        return {"Item": self.item} if self.kind == "put" else {"Key": self.item}


class Writer:
    """Writes into one table."""

    def __init__(self, link: AwsLink, environment: Environment, table: str) -> None:
        self._link = link
        self._clock = environment.clock
        self._table = table
        self._writing = asyncio.Semaphore(_AT_A_TIME)

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        """Write each whose condition holds; says which. No key may stand twice among them."""
        answers = await together(self.change(f"{w.kind}_item", w.condition, w.values, **w.parameter) for w in writes)
        return [answer is not None for answer in answers]

    async def change(self, method: str, condition: str, values: Item, **parameters: Any) -> dict[str, Any] | None:
        """Change one item if the condition holds; else None. A ValidationException is raised as it is."""
        text = condition + parameters.get("UpdateExpression", "")
        try:
            async with self._writing:
                return await self._link.call(
                    method, TableName=self._table, **self._conditional(condition, values, text), **parameters
                )
        except Refusal as refusal:
            if refusal.code == "ConditionalCheckFailedException":
                return None
            if refusal.code == "ValidationException":
                raise
            raise self._link.translated(refusal) from refusal

    def _conditional(self, condition: str, values: Item, text: str) -> Mapping[str, Any]:
        given = {**values, ":now": seconds(self._clock.wall())} if ":now" in condition else values
        return {
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {name: attribute for name, attribute in _NAMES.items() if name in text},
            "ExpressionAttributeValues": given,
        }


def stored(value: bytes) -> Item:
    """A fact's value: a number where it reads the same afterwards, so that DynamoDB can count."""
    return {"N": value.decode()} if _NUMBER.fullmatch(value) else {"B": value}


def seconds(number: float) -> Item:
    """A time or a duration."""
    return {"N": repr(number)}
