"""A table: there, or created when it is missing and we may."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

from msgspec import Struct

from asyncq.errors import BackendConnectionError, ConfigurationError
from asyncq_brokers._clients.aws import AwsLink, Refusal

__all__ = ["TTL", "SharedTable", "Table"]

logger = logging.getLogger(__name__)

#: The attribute by which DynamoDB deletes items some time after they have expired: UNIX seconds, as Celery has it.
TTL = "ttl"

#: Seconds that the making of a table may take.
_PATIENCE = 90.0

#: Seconds between two looks at a table that is being made.
_LOOK = 0.5


class Table(Struct, frozen=True, kw_only=True):
    """What a table is to be, if it has to be created."""

    name: str
    #: Partition key, and the key that items of a partition are sorted by.
    key: str
    sort_key: str | None = None
    #: Read and write units a second; None bills by request.
    units: tuple[int, int] | None = None
    #: Whether DynamoDB is to delete what has expired: None leaves that as it is, in a table that was there before.
    expires: bool | None = None

    async def ensure(self, link: AwsLink) -> None:
        """See to it that the table can be used. Raises ConfigurationError, BackendError."""
        status = await self._status(link)
        created = status is None
        if created:
            await self._create(link)
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while status not in {"ACTIVE", "UPDATING"}:
            status = await self._status(link)
            if asyncio.get_running_loop().time() > deadline:
                raise BackendConnectionError(
                    f"the table {self.name!r} at {link.account.address} can't be used: it is {status or 'gone'}, after "
                    f"{_PATIENCE:.0f} seconds"
                )
            if status not in {"ACTIVE", "UPDATING"}:
                await asyncio.sleep(_LOOK)
        if self.expires is not None or created:
            await self._set_expiry(link, enabled=self.expires is not False, own=created)

    async def _status(self, link: AwsLink) -> str | None:
        try:
            answer = await link.call("describe_table", harmless=True, TableName=self.name)
        except Refusal as refusal:
            if refusal.code == "ResourceNotFoundException":
                return None
            raise link.translated(refusal, starting=True) from refusal
        return str(answer["Table"]["TableStatus"])

    async def _create(self, link: AwsLink) -> None:
        kinds = {self.key: "HASH"} if self.sort_key is None else {self.key: "HASH", self.sort_key: "RANGE"}
        billing: dict[str, Any] = {"BillingMode": "PAY_PER_REQUEST"}  # Any: as the API has it
        if self.units is not None:
            read, write = self.units
            billing = {"ProvisionedThroughput": {"ReadCapacityUnits": read, "WriteCapacityUnits": write}}
        try:
            await link.call(
                "create_table",
                TableName=self.name,
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in kinds],
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in kinds.items()],
                **billing,
            )
        except Refusal as refusal:
            if refusal.code == "ResourceInUseException":  # somebody else was first
                return
            if refusal.denied:
                self._refuse(refusal, link)
            raise link.translated(refusal, starting=True) from refusal

    async def _set_expiry(self, link: AwsLink, *, enabled: bool, own: bool) -> None:
        try:
            answer = await link.call("describe_time_to_live", harmless=True, TableName=self.name)
            description: dict[str, Any] = answer["TimeToLiveDescription"]  # Any: as the API has it
            if (description.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}) == enabled:
                return
            await link.call(
                "update_time_to_live",
                TableName=self.name,
                TimeToLiveSpecification={"Enabled": enabled, "AttributeName": TTL},
            )
        except Refusal as refusal:
            if not own and not refusal.denied:
                raise link.translated(refusal, starting=True) from refusal
            # The table serves without; what has expired is never shown, it only stays there and costs its room.
            logger.warning("Expired items stay in the table %s: %s", self.name, refusal)

    def _refuse(self, refusal: Refusal, link: AwsLink) -> NoReturn:
        raise ConfigurationError(
            f"there is no table {self.name!r} at {link.account.address}, and dynamodb:CreateTable is denied: create it "
            f"(key {self.key!r}), or allow that action in the IAM policy"
        ) from refusal


class SharedTable:
    """The table beside the results, for what workers and clients share. It is made at first use.

    Of its own, because the results have no order: items of one partition (`space`), sorted by `key`, can be asked by
    prefix.
    """

    def __init__(self, link: AwsLink, name: str) -> None:
        self.name = name
        self._link = link
        self._table = Table(name=name, key="space", sort_key="key", expires=True)
        self._ready = False
        self._preparing = asyncio.Lock()

    async def ready(self) -> None:
        """See to it that the table can be used. Raises ConfigurationError, BackendError."""
        if self._ready:
            return
        async with self._preparing:
            if not self._ready:
                try:
                    await self._table.ensure(self._link)
                except ConfigurationError as error:
                    raise ConfigurationError(
                        f"{error}. Chords, revocations, unique tasks, rate limits and suspects need the table "
                        f"{self.name!r}; result_backend_transport_options={{'facts_table': False}} does without"
                    ) from error
                self._ready = True
