"""Tells the broker what became of its deliveries, in batches."""

from __future__ import annotations

import asyncio
import logging
import random

import anyio
from msgspec import Struct

from asyncq._flight import FlightRecorder
from asyncq.driver import Consumer, Dead, Delivery, Park, Settlement
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull
from asyncq.worker._backoff import Backoff
from asyncq.worker._flow import Flow
from asyncq.worker._leases import LeaseKeeper

logger = logging.getLogger(__name__)


class _Pending(Struct, eq=False):
    settlement: Settlement
    #: Resolved with True when it was still ours.
    done: asyncio.Future[bool] | None = None
    #: Its fate is unknown: being told now that it is not ours any more may only mean that it was settled before.
    repeated: bool = False
    #: Until then (monotonic) nobody else can have settled it; for those who wait for the answer.
    lease_end: float = 0.0
    #: Where it stands in the flight table; 0: nowhere.
    slot: int = 0


class Settler:
    """Gathers settlements while a call to the broker is under way; then they go out together."""

    def __init__(
        self,
        consumer: Consumer,
        leases: LeaseKeeper,
        flow: Flow,
        dice: random.Random,
        *,
        flights: FlightRecorder | None = None,
    ) -> None:
        self._consumer = consumer
        self._flights = flights
        self._leases = leases
        self._flow = flow
        self._backoff = Backoff(dice)
        self._pending: list[_Pending] = []
        self._wanted = asyncio.Event()
        self._flushing = False

    @property
    def busy(self) -> bool:
        """Something is not settled yet."""
        return self._flushing or bool(self._pending)

    def put(self, settlement: Settlement, *, slot: int = 0) -> None:
        """Settle soon; repeated until the broker has answered. Then its slot in the flight table is free."""
        self._pending.append(_Pending(settlement, slot=slot) if slot else _Pending(settlement))
        self._wanted.set()

    async def settle(self, settlement: Settlement) -> bool:
        """Settle with the next batch and wait for it; return whether the delivery was still ours."""
        done = asyncio.get_running_loop().create_future()
        pending = _Pending(settlement, done, lease_end=self._leases.end_of(settlement.delivery))
        self._pending.append(pending)
        self._wanted.set()
        return await done

    def withdraw(self, settlement: Settlement) -> bool:
        """Take back what nobody was told yet; return False when it is too late for that."""
        for position, pending in enumerate(self._pending):
            if pending.settlement is settlement and not pending.repeated:
                del self._pending[position]
                return True
        return False

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._pending = self._pending, []
            self._flushing = True
            await self._flush(batch)
            self._flushing = False
            self._flow.notify()

    async def _flush(self, batch: list[_Pending]) -> None:
        try:
            lost = await self._consumer.settle([pending.settlement for pending in batch])
        except (BrokerConnectionError, BrokerFull) as error:
            await self._again(batch, error)
        except BrokerError as error:
            await self._one_by_one(batch, error)
        else:
            if self._backoff.reset():
                logger.info("The broker takes settlements again")
            self._finish(batch, lost)

    async def _one_by_one(self, batch: list[_Pending], error: BrokerError) -> None:
        """Find the one that the broker refuses for good; it comes back when its lease ends."""
        if len(batch) > 1:
            for pending in batch:
                await self._flush([pending])
            return
        delivery = batch[0].settlement.delivery
        fields = {"queue": delivery.queue, "delivery_tag": delivery.tag}
        logger.error("The broker refuses to settle a delivery from %s: %s", delivery.queue, error, extra=fields)
        self._finish(batch, [])

    def _finish(self, batch: list[_Pending], lost: list[Delivery]) -> None:
        gone = {delivery.tag for delivery in lost} if lost else ()
        if self._flights is not None:
            self._flights.leave_together([pending.slot for pending in batch if pending.slot])
        for pending in batch:
            delivery = pending.settlement.delivery
            self._leases.drop(delivery)
            ours = delivery.tag not in gone
            if pending.done is not None and not pending.done.done():
                # Gone within its lease: it was settled by us, and only the reply to that was lost.
                settled_before = pending.repeated and not self._leases.is_over(pending.lease_end)
                pending.done.set_result(ours or settled_before)
            if not ours and not pending.repeated:
                self._flow.stats.lost += 1
                logger.warning(
                    "A delivery from %s was no longer ours when it ended: it runs elsewhere as well",
                    delivery.queue,
                    extra={"queue": delivery.queue, "delivery_tag": delivery.tag},
                )

    async def _again(self, batch: list[_Pending], error: BrokerConnectionError | BrokerFull) -> None:
        if isinstance(error, BrokerFull):
            # What stores nothing was settled all the same (driver.Consumer.settle).
            stuck = [pending for pending in batch if isinstance(pending.settlement, Dead | Park)]
            self._finish([pending for pending in batch if not isinstance(pending.settlement, Dead | Park)], [])
        else:
            stuck = batch
            for pending in stuck:
                pending.repeated = True
        if not self._backoff.failing:
            logger.warning("%d settlements wait for the broker: %s", len(stuck), error)
        self._pending[:0] = stuck
        self._wanted.set()
        await anyio.sleep(self._backoff.next_delay())
