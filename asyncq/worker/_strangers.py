"""Messages of tasks that this worker doesn't know.

In a rolling deploy the new code sends before every worker has it. Celery deletes such a message; here it waits for a
worker that knows the task.
"""

from __future__ import annotations

import math
from typing import Any, cast

from asyncq.driver import Delivery, Publication
from asyncq.protocol import UNKNOWN_HEADER, Limits, WireMessage, decode_envelope

#: Seconds before each further look; the last one is repeated.
DELAYS = (1, 5, 30, 60, 300, 600)


def put_off(delivery: Delivery, *, now: float, timeout: float, limits: Limits) -> Publication | None:
    """The message as it came, due later, and with what it has waited on it; None when that is `timeout` seconds."""
    content = delivery.content
    wire = content if isinstance(content, WireMessage) else decode_envelope(content, limits=limits)
    looks, waited = _history(wire)
    delay = min(DELAYS[min(looks, len(DELAYS) - 1)], timeout - waited)
    if delay <= 0:
        return None
    wire.headers[UNKNOWN_HEADER] = {"looks": looks + 1, "waited": waited + delay}
    return Publication(message=wire, queue=delivery.queue, not_before=now + delay)


def _history(wire: WireMessage) -> tuple[int, float]:
    """How often it was looked at, and the seconds that it has waited."""
    found = wire.headers.get(UNKNOWN_HEADER)
    if not isinstance(found, dict):
        return 0, 0.0
    history = cast("dict[str, Any]", found)
    looks, waited = history.get("looks"), history.get("waited")
    # Whoever may write a queue may write this, too.
    if isinstance(looks, int) and isinstance(waited, int | float) and looks >= 0 and waited >= 0:
        return looks, waited
    return len(DELAYS), math.inf
