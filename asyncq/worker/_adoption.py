"""Deliveries that come again while their tasks still run here: they need no second run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asyncq.driver import Delivery
from asyncq.protocol import TaskMessage
from asyncq.worker._attempt import Attempt
from asyncq.worker._executor import Executor
from asyncq.worker._hold import Hold

logger = logging.getLogger(__name__)


class Adoption:
    """Gives such a delivery to the run that has lost its own.

    Where deliveries end with their connection, the loss of that brings again all that runs. What comes to this very
    process can be settled by the run that goes on; what goes elsewhere runs twice.
    """

    def __init__(self, hold: Hold, executor: Executor) -> None:
        self._consumer = hold.consumer
        self._leases = hold.leases
        self._executor = executor
        #: By task id: runs without a delivery of ours.
        self._orphans: dict[str, Attempt] = {}

    async def look(self, deliveries: Sequence[Delivery]) -> None:
        """See who has lost its delivery, if one of these may be it. Raises BrokerError."""
        self._orphans = {}
        running = self._executor.running
        if running and any(delivery.redelivered for delivery in deliveries):
            lost = {each.tag for each in await self._consumer.extend([attempt.delivery for attempt in running])}
            self._orphans = {
                attempt.message.id: attempt
                for attempt in running
                if attempt.delivery.tag in lost and not attempt.acknowledged
            }

    def adopt(self, delivery: Delivery, message: TaskMessage) -> bool:
        """Let the run that goes on have it; False where there is none."""
        orphan = self._orphans.get(message.id)
        if orphan is None or orphan.ended or not _are_the_same(orphan, delivery, message):
            return False
        del self._orphans[message.id]
        self._leases.drop(orphan.delivery)
        orphan.delivery = delivery
        logger.info("%s has come again while it runs here: that run goes on", orphan, extra=orphan.log_fields())
        return True


def _are_the_same(orphan: Attempt, delivery: Delivery, message: TaskMessage) -> bool:
    return (
        delivery.redelivered
        and delivery.queue == orphan.delivery.queue
        and (message.task, message.retries) == (orphan.message.task, orphan.message.retries)
    )
