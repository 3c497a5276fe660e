"""One worker's hold on some queues."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

from asyncq.driver import Ack, ConsumerOptions, Dead, Delivery, Environment, GiveBack, Park, Requeue, Settlement
from asyncq.errors import BrokerConnectionError, BrokerError, ConfigurationError
from asyncq_brokers._clients.aws import BROKER_ERRORS, Finisher

from .batches import BATCH
from .burying import Undertaker
from .deliveries import Deliveries, Held
from .options import MOST_SECONDS, BrokerOptions
from .parking import Parker
from .poller import Poller
from .publishing import Publisher
from .queues import Queues

__all__ = ["SqsConsumer"]

logger = logging.getLogger(__name__)

#: Seconds that `close` waits for polls under way, and that it takes at most, giving back included.
_POLL_TIMEOUT, _CLOSE_TIMEOUT = 0.6, 0.85

#: Seconds between two calls that acknowledge less than a full batch: more acknowledgements gather meanwhile, and each
#: request costs.
_ACK_PAUSE = 0.1

#: Seconds until housekeeping is asked for again; there is none: SQS does its own.
_ROUND = 60.0


class SqsConsumer:
    """Takes by long polls, one a queue; settles and extends ten at a time (`asyncq.driver.Consumer`)."""

    def __init__(
        self,
        names: Sequence[str],
        options: ConsumerOptions,
        *,
        queues: Queues,
        publisher: Publisher,
        transport: BrokerOptions,
        environment: Environment,
    ) -> None:
        self._names = list(names)
        self._queues = queues
        self._environment = environment
        self._clock = environment.clock
        lease = max(1, math.ceil(options.lease))
        if lease > MOST_SECONDS - transport.wait_time_seconds:
            raise ConfigurationError(
                f"lease: SQS hides a message for {MOST_SECONDS:,} seconds at most, a long poll of "
                f"{transport.wait_time_seconds} included, not for {lease:,}; leases are extended while a task runs"
            )
        self._deliveries = Deliveries(environment, lease)
        self._undertaker = Undertaker(queues, publisher, self._deliveries)
        self._parker = Parker(publisher, self._deliveries, environment.clock)
        self._finisher = Finisher(BROKER_ERRORS)
        self._changed = asyncio.Event()
        self._pollers = [
            Poller(
                name,
                queues,
                self._deliveries,
                environment=environment,
                lease=lease,
                wait=transport.wait_time_seconds,
                pause=transport.polling_interval,
                tell=self._changed.set,
            )
            for name in self._names
        ]
        #: Monotonic time before which acknowledgements gather.
        self._next_ack = 0.0
        self.closed = False

    @property
    def last_contact(self) -> float:
        return max(link.last_reply for link in self._queues.links)

    async def receive(self, limit: int) -> list[Delivery]:
        while True:
            if self.closed:
                raise BrokerConnectionError("the consumer is closed")
            self._changed.clear()
            taken: list[Delivery] = []
            for poller in tuple(self._pollers):
                if some := poller.take(limit - len(taken)):
                    taken += some
                    # Its turn comes again behind the others.
                    self._pollers.remove(poller)
                    self._pollers.append(poller)
            if taken:
                return taken
            for poller in self._pollers:
                poller.raise_failure()
            self._start_polls(limit)
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                for poller in self._pollers:
                    poller.leave()
                raise

    def _start_polls(self, room: int) -> None:
        """Ask every queue that was empty, and no more of the others than there is room for what they bring.

        A hundred queues with work would else bring a hundred messages to a worker that can take one, again and again.
        """
        left = room - sum(poller.expected for poller in self._pollers)
        flowing = [poller for poller in self._pollers if poller.flowing]
        for poller in self._pollers:
            if not poller.flowing:
                poller.start(room)
        for poller in flowing:
            if left > 0:
                # Others have something to bring, too: nobody waits here for messages to come.
                poller.start(left, hasty=len(flowing) > 1)
                left -= poller.expected

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        if not settlements:
            return []
        lost = await self._finisher.run(self._settle(settlements))
        return [settlements[position].delivery for position in sorted(lost)]

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        if not deliveries:
            return []
        return await self._finisher.run(self._extend(deliveries))

    async def maintain(self) -> float:
        return _ROUND

    async def close(self) -> None:
        self.closed = True
        self._changed.set()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*(poller.close(_POLL_TIMEOUT) for poller in self._pollers))
        except (TimeoutError, BrokerError) as error:
            logger.info("could not give back what was taken and not begun; its lease will: %s", error)
        finally:
            await self._finisher.close(0.1)

    async def _settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """Settle; returns the positions of what is no longer ours."""
        if len(settlements) < BATCH and all(isinstance(settlement, Ack) for settlement in settlements):
            await self._gather()
        lost: set[int] = set()
        positions: dict[str, int] = {}
        deletes: list[Held] = []
        hides: list[Held] = []
        seconds: list[int] = []
        burials: list[tuple[Held, Dead]] = []
        renewals: list[tuple[Held, float]] = []
        for position, settlement in enumerate(settlements):
            held = self._deliveries.find(settlement.delivery)
            if held is None or settlement.delivery.tag in positions:  # settled before, in this call or another
                lost.add(position)
                continue
            positions[settlement.delivery.tag] = position
            match settlement:
                case Ack():
                    deletes.append(held)
                case Dead():
                    burials.append((held, settlement))
                case Park(until=until) if held.replaced or self._parker.outlasts(held, until):
                    renewals.append((held, until))
                case Park(until=until):
                    hides.append(held)
                    seconds.append(self._parker.hiding(held, until))
                case Requeue() | GiveBack():  # a standard queue has no front, and in a FIFO queue each has its place
                    hides.append(held)
                    seconds.append(0)
        deletes += await self._undertaker.bury(burials) if burials else []
        deletes += await self._parker.renew(renewals) if renewals else []
        gone = await self._deliveries.hide(hides, seconds) + await self._deliveries.delete(deletes)
        lost.update(positions[held.delivery.tag] for held in gone)
        return lost

    async def _gather(self) -> None:
        """Let more acknowledgements come together than one by one: whoever settles waits for us with the rest."""
        pause = self._next_ack - self._clock.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._next_ack = self._clock.monotonic() + _ACK_PAUSE

    async def _extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        found = [(delivery, self._deliveries.find(delivery)) for delivery in deliveries]
        lost = await self._deliveries.extend([held for _, held in found if held is not None])
        gone = {held.delivery.tag for held in lost}
        return [delivery for delivery, held in found if held is None or delivery.tag in gone]
