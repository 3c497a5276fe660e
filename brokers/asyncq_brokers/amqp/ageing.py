"""What is done about deliveries that are out for long: RabbitMQ's `consumer_timeout` ends their channel."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from .lane import Lane

__all__ = ["end_old", "tell_of_overdue"]

logger = logging.getLogger(__name__)

#: Seconds after which a delivery no longer shares a channel with new ones: after `consumer_timeout` (30 minutes by
#: default) everything on its channel comes again.
_OLD = 600.0

#: Seconds after which people are told of one: five minutes before that time-out.
_OVERDUE = 1500.0


def end_old(lanes: Iterable[Lane], now: float) -> None:
    """Let nothing new come on a lane with an old delivery; `now` is monotonic."""
    for lane in lanes:
        if lane.oldest < now - _OLD:
            lane.end()


def tell_of_overdue(lanes: Iterable[Lane], now: float) -> None:
    """Warn of each delivery that is nearly too old, once; `now` is monotonic."""
    numbers = Counter(queue for lane in lanes for queue in lane.overdue(now - _OVERDUE))
    for queue, number in numbers.items():
        logger.warning(
            "Deliveries from %s that have been unacknowledged for %d minutes: %d. After its consumer_timeout, 30 "
            "minutes as it comes, RabbitMQ gives them to others, and their tasks run twice; a time_limit below that, "
            "acks_late=False or a longer time-out would prevent it",
            queue,
            _OVERDUE // 60,
            number,
            extra={"queue": queue},
        )
