"""One worker's hold on some queues: messages are pushed to us, and handed out as they are asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from asyncq.driver import ConsumerOptions, Delivery, Environment, Queue, Settlement
from asyncq.errors import BrokerConnectionError, BrokerError
from asyncq_brokers._clients.amqp import Incoming, Link
from asyncq_brokers._clients.unbroken import Unbroken

from .idle import IdleReturn
from .intake import Intake
from .lane import Lane
from .messages import read
from .publishing import Publisher
from .settling import Settling

__all__ = ["AmqpConsumer"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at how old deliveries are.
_MAINTENANCE = 30.0

#: Seconds that the giving back at `close` may take.
_CLOSE_TIMEOUT = 0.5


class AmqpConsumer:
    """Feeds `receive` from an intake, settles by delivery tags (`asyncq.driver.Consumer`)."""

    def __init__(
        self,
        queues: Sequence[Queue],
        options: ConsumerOptions,
        *,
        link: Link,
        publisher: Publisher,
        environment: Environment,
    ) -> None:
        self._prefetch = options.prefetch
        #: Not the publisher's connection: a server that is full reads nothing more from those who publish.
        self._link = link
        self._clock = environment.clock
        #: A tag tells whose it is: `<node>/<this consumer>/<number>`.
        self._prefix = f"{options.node}/{environment.new_id()[:8]}/"
        self._number = 0
        self._idle = IdleReturn(self._return_waiting)
        self._intake = Intake(
            queues, link=link, node=options.node, prefetch=options.prefetch, clock=self._clock, came=self._idle.start
        )
        self._settling = Settling(self._intake, publisher, link)
        self._opening = Unbroken()
        self._settlements = Unbroken()
        self.closed = False

    @property
    def last_contact(self) -> float:
        return self._link.last_contact

    async def receive(self, limit: int) -> list[Delivery]:
        limit = max(1, min(limit, self._prefetch))
        intake = self._intake
        while True:
            if self.closed:
                raise BrokerConnectionError("the consumer is closed")
            if taken := intake.take(limit):
                self._idle.wind(waits=intake.waits)
                return [self._hand_out(*each) for each in taken]
            intake.changed.clear()
            if intake.windows(limit):
                await self._opening.run(lambda: intake.open_lane(limit))
            else:
                await intake.changed.wait()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        # A caller that is cancelled leaves it running: what was published elsewhere has to be acknowledged here.
        return await self._settlements.run(lambda: self._settling.settle(settlements))

    async def extend(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return [delivery for delivery in deliveries if self._settling.lane_of(delivery.tag) is None]

    async def maintain(self) -> float:
        self._intake.maintain()
        return _MAINTENANCE

    async def close(self) -> None:
        self.closed = True
        self._intake.changed.set()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._opening.finish()
                await self._settlements.run(self._settling.return_waiting)
        except (TimeoutError, BrokerError) as error:
            logger.info("could not give back what was pushed and not begun; the end of the connection will: %s", error)
        finally:
            await self._link.close()
            await self._idle.close()

    def _hand_out(self, queue: str, lane: Lane, incoming: Incoming) -> Delivery:
        self._number += 1
        tag = f"{self._prefix}{self._number}"
        self._settling.hand_out(tag, lane, incoming.delivery_tag)
        message, redelivered, count, _ = read(incoming)
        return Delivery(tag, queue, message, redelivered, count, self._clock.monotonic())

    async def _return_waiting(self) -> None:
        if self._intake.waits:
            await self._settlements.run(self._settling.return_waiting)
