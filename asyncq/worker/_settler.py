"""Tells the broker what became of its deliveries, in batches."""

from __future__ import annotations

import asyncio
import logging
import random

import anyio
from msgspec import Struct

from asyncq._flight import FlightRecorder
from asyncq.driver import Ack, Consumer, Dead, Delivery, GiveBack, Park, Requeue, Settlement
from asyncq.errors import BrokerConnectionError, BrokerError, BrokerFull
from asyncq.worker._backoff import Backoff
from asyncq.worker._flow import Flow
from asyncq.worker._leases import LeaseKeeper

logger = logging.getLogger(__name__)

#: Seconds that a delivery is held which can't go where it should, before it goes behind the others: each time it comes
#: it costs as much as a task.
_PAUSE = 5.0


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
        #: Refused by the broker; they go back when the timer goes off.
        self._put_off: list[_Pending] = []
        self._timer: asyncio.TimerHandle | None = None
        #: Queues and kinds of settlement of which people were told that the broker refuses them.
        self._told: set[tuple[str, type[Settlement]]] = set()

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
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                batch, self._pending = self._pending, []
                self._flushing = True
                await self._flush(batch)
                self._flushing = False
                self._flow.notify()
        finally:
            if self._timer is not None:
                self._timer.cancel()

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
        """Find the one that the broker refuses for good. The call that has failed may have settled all others."""
        if len(batch) > 1:
            for pending in batch:
                pending.repeated = True
                await self._flush([pending])
            return
        (pending,) = batch
        settlement, delivery = pending.settlement, pending.settlement.delivery
        kind = type(settlement)
        level = logging.DEBUG if (delivery.queue, kind) in self._told else logging.ERROR
        self._told.add((delivery.queue, kind))
        fields = {"queue": delivery.queue, "delivery_tag": delivery.tag}
        text = "The broker refuses to settle a delivery from %s (%s): %s"
        logger.log(level, text, delivery.queue, kind.__name__, error, extra=fields)
        if isinstance(settlement, Dead | Park | Requeue):
            # Held for ever, it would keep a place that others need, where no lease brings it back.
            pending.settlement = GiveBack(delivery) if isinstance(settlement, Requeue) else Requeue(delivery)
            self._put_off.append(pending)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._put_back)
        else:
            self._finish(batch, [])

    def _put_back(self) -> None:
        self._timer = None
        self._pending += self._put_off
        self._put_off = []
        self._wanted.set()

    def _finish(self, batch: list[_Pending], lost: list[Delivery]) -> None:
        gone = {delivery.tag for delivery in lost} if lost else ()
        if self._flights is not None:
            self._flights.leave_together([pending.slot for pending in batch if pending.slot])
        for pending in batch:
            delivery = pending.settlement.delivery
            self._leases.drop(delivery)
            ours = delivery.tag not in gone
            if type(pending.settlement) is not Ack and (ours or pending.repeated):
                self._count(pending.settlement)
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

    def _count(self, settlement: Settlement) -> None:
        if isinstance(settlement, Dead):
            self._flow.stats.dead += 1
        elif isinstance(settlement, Park):
            self._flow.stats.parked += 1

    async def _again(self, batch: list[_Pending], error: BrokerConnectionError | BrokerFull) -> None:
        stuck = batch
        if isinstance(error, BrokerFull):
            # What stores nothing was settled all the same (driver.Consumer.settle).
            stuck = [pending for pending in batch if isinstance(pending.settlement, Dead | Park | Requeue)]
            self._finish(
                [pending for pending in batch if not isinstance(pending.settlement, Dead | Park | Requeue)], []
            )
        for pending in stuck:
            pending.repeated = True
        if not self._backoff.failing:
            logger.warning("%d settlements wait for the broker: %s", len(stuck), error)
        self._pending[:0] = stuck
        self._wanted.set()
        await anyio.sleep(self._backoff.next_delay())
