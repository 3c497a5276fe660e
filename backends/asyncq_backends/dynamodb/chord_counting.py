"""The parts of chords, each counted once; and Celery's items of a chord, among the results: its header, its counter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from asyncq.driver import ChordPart, Environment
from asyncq.errors import BackendConnectionError
from asyncq_brokers._clients.aws import AwsLink, Refusal

from .batches import write_items
from .chord_states import ChordStates, expiry, names_in
from .items import Item, item_id, record_of
from .options import BackendOptions

__all__ = ["ChordCounting"]

#: Members of one page.
_PAGE = 500

#: Seconds: pauses while others write the same items. They grow twofold, with full jitter.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5

#: What the keys of parts begin with, and the place of one that names none: behind all digits.
_PART, _LAST = "part:", "~"

#: What the keys of growths begin with.
_GROWTH = "growth:"

#: Why a transaction was refused that may be tried again: others write the same items, or too much is asked.
_BUSY = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})

_NEW = "attribute_not_exists(#expires) OR #expires <= :now"


class ChordCounting:
    """`shared` is the table of asyncq's own items."""

    def __init__(
        self, link: AwsLink, environment: Environment, states: ChordStates, *, options: BackendOptions, shared: str
    ) -> None:
        self._link = link
        self._clock = environment.clock
        self._random = environment.random
        self._states = states
        self._results = options.table
        self._ttl_seconds = options.ttl_seconds
        self._shared = shared
        self._space = f"{options.prefix}asyncq.chord."
        self._header = f"{options.prefix}celery-taskset-meta-"
        self._counter = f"{options.prefix}chord-unlock-"

    async def add(self, parts: Sequence[ChordPart]) -> bool:
        """Count those of a chord's parts that are new, all at once. False where the chord is closed, or has expired.

        The whole is refused where one of them is not new; the others are then tried again without it.
        """
        left = list(parts)
        while left:
            refused = await self._write_together(self._transaction(left))
            if len(left) in refused:  # the state's
                return False
            left = [part for at, part in enumerate(left) if at not in refused] if refused else []
        return True

    async def grow(self, group_id: str, by: int, name: str, expires: float | None) -> bool:
        """Expect more parts, unless that was said by this name. False as for `add`."""
        now = self._clock.wall()
        growth = self._own(group_id, f"{_GROWTH}{name}", expires, now)
        state = self._states.growing(group_id, by, expires)
        return 1 not in await self._write_together([self._new(growth, now), {"Update": state}])

    async def members(self, group_id: str) -> AsyncGenerator[list[bytes]]:
        """In pages, in their order."""
        further: dict[str, Any] = {}  # Any: as the API has it
        while True:
            items, further = await self._page(group_id, _PART, further)
            now = self._clock.wall()
            yield [bytes(item["member"]["B"]) for item in items if float(item["expires"]["N"]) > now]
            if not further:
                return

    async def delete_members(self, group_id: str) -> None:
        """And what it has grown by."""
        for kind in (_PART, _GROWTH):
            further: dict[str, Any] = {}  # Any: as the API has it
            while True:
                items, further = await self._page(group_id, kind, further)
                keys = [{"space": item["space"], "key": item["key"]} for item in items]
                await self._write(self._shared, keys)
                if not further:
                    break

    # -- among the results -----------------------------------------------------------------------------------------

    async def begin(self, group_id: str, expires: float | None) -> int:
        """Make the counter, unless it is there; returns `counted`."""
        count = self._count(group_id, 0, expires)
        answer = await self._link.ask("update_item", harmless=True, ReturnValues="ALL_NEW", **count)
        return _ours(answer["Attributes"])

    async def counted(self, group_id: str) -> int:
        """What the counter was after *we* had counted for the last time."""
        key = {"id": item_id(self._counter + group_id)}
        answer = await self._link.ask("get_item", harmless=True, TableName=self._results, Key=key, ConsistentRead=True)
        return _ours(answer.get("Item", {}))

    async def header(self, group_id: str) -> bytes | None:
        """The saved header."""
        key = {"id": item_id(self._header + group_id)}
        answer = await self._link.ask("get_item", harmless=True, TableName=self._results, Key=key, ConsistentRead=True)
        return record_of(answer.get("Item"), self._clock.wall())

    async def save_header(self, group_id: str, saved: bytes, expires: float | None) -> None:
        now = self._clock.wall()
        item: Item = {"id": item_id(self._header + group_id), "result": {"B": saved}, "timestamp": {"N": repr(now)}}
        item |= {name[1:]: value for name, value in self._ttl(expires, now).items()}
        await write_items(self._link, self._random, self._results, [{"PutRequest": {"Item": item}}])

    async def delete_counts(self, group_id: str) -> None:
        """The header and the counter."""
        await self._write(self._results, [{"id": item_id(key + group_id)} for key in (self._header, self._counter)])

    # -- requests --------------------------------------------------------------------------------------------------

    async def _write_together(self, items: Sequence[Item]) -> set[int]:
        """Write all of them or none; return the positions of those whose condition didn't hold.

        Waits while others write the same ones.
        """
        pause, deadline = _FIRST_PAUSE, asyncio.get_running_loop().time() + self._link.timeout
        while True:
            try:
                await self._link.call("transact_write_items", harmless=True, TransactItems=items)
            except Refusal as refusal:
                codes = [str(reason.get("Code")) for reason in refusal.details.get("CancellationReasons", [])]
                refused = {at for at, code in enumerate(codes) if code == "ConditionalCheckFailed"}
                if refused:
                    return refused
                if _BUSY.isdisjoint(codes):
                    raise self._link.translated(refusal) from refusal
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise BackendConnectionError(
                        f"{self._link.account.address} counts no part: too many at once"
                    ) from refusal
                await asyncio.sleep(self._random.uniform(0, pause))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return set()

    def _transaction(self, parts: Sequence[ChordPart]) -> list[Item]:
        """Parts, the chord's state, the counter: refusals name them by their position."""
        now = self._clock.wall()
        last = parts[-1]
        puts = [self._new(self._item(part, now), now) for part in parts]
        count = self._count(last.group_id, len(parts), last.expires)
        return [*puts, {"Update": self._states.keeping(last)}, {"Update": count}]

    def _new(self, item: Item, now: float) -> Item:
        return {
            "Put": {
                "TableName": self._shared,
                "Item": item,
                "ConditionExpression": _NEW,
                "ExpressionAttributeNames": names_in(_NEW),
                "ExpressionAttributeValues": {":now": {"N": repr(now)}},
            }
        }

    def _item(self, part: ChordPart, now: float) -> Item:
        place = _LAST if part.index is None else f"{part.index:010}"
        item = self._own(part.group_id, f"{_PART}{place}:{part.task_id}", part.expires, now)
        return {**item, "member": {"B": part.member}}

    def _own(self, group_id: str, key: str, expires: float | None, now: float) -> Item:
        """One in the chord's partition."""
        _, values = expiry(expires, now)
        place: Item = {"space": {"S": self._space + group_id}, "key": {"S": key}}
        return place | {name[1:]: value for name, value in values.items()}

    def _count(self, group_id: str, by: int, expires: float | None) -> Item:
        """An update of the counter. What it reads is the counter as it was before, whatever else it sets."""
        now = self._clock.wall()
        ttl = self._ttl(expires, now)
        before = "if_not_exists(#chord_count, :zero)"
        update = f"SET #asyncq_count = {before} + :by, #chord_count = {before} + :by, #timestamp = :now"
        if not by:  # nothing of ours was counted
            update = f"SET #chord_count = {before} + :by, #timestamp = :now"
        if ttl:
            update += ", #ttl = :ttl"
        return {
            "TableName": self._results,
            "Key": {"id": item_id(self._counter + group_id)},
            "UpdateExpression": update,
            "ExpressionAttributeNames": names_in(update),
            "ExpressionAttributeValues": {":by": {"N": str(by)}, ":zero": {"N": "0"}, ":now": {"N": repr(now)}, **ttl},
        }

    def _ttl(self, expires: float | None, now: float) -> Item:
        """As the results' own: what the URL says, else what the call says; nothing for ever."""
        seconds = expires if self._ttl_seconds is None else self._ttl_seconds
        return {} if seconds is None or seconds < 0 else {":ttl": expiry(seconds, now)[1][":ttl"]}

    async def _page(self, group_id: str, kind: str, further: dict[str, Any]) -> tuple[list[Item], dict[str, Any]]:
        condition = "#space = :space AND begins_with(#key, :kind)"
        answer = await self._link.ask(
            "query",
            harmless=True,
            TableName=self._shared,
            ConsistentRead=True,
            Limit=_PAGE,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names_in(condition),
            ExpressionAttributeValues={":space": {"S": self._space + group_id}, ":kind": {"S": kind}},
            **further,
        )
        last = answer.get("LastEvaluatedKey")
        return answer["Items"], {} if last is None else {"ExclusiveStartKey": last}

    async def _write(self, table: str, keys: Sequence[Item]) -> None:
        await write_items(self._link, self._random, table, [{"DeleteRequest": {"Key": key}} for key in keys])


def _ours(counter: Item) -> int:
    return int(counter.get("asyncq_count", {}).get("N", 0))
