"""What deliveries that come again had come to before.

A task sends what follows it, then stores its result, then acknowledges its message. Where its worker is lost before
that, it comes again; and as a step of a chain it would send the next one again, which would do the same: the rest of
the chain would run twice, side by side. Once its success is stored, there is nothing left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from asyncq.driver import ResultBackend
from asyncq.errors import BackendError, DecodeError
from asyncq.protocol import Limits, decode_result
from asyncq.worker._attempt import Attempt

logger = logging.getLogger(__name__)


class Past:
    """One worker's way to know it. While the result backend is away, nothing is known, and what comes again runs."""

    def __init__(self, backend: ResultBackend | None, *, accept: Collection[str], limits: Limits) -> None:
        self._backend = backend
        self._accept = accept
        self._limits = limits

    async def done(self, attempts: Sequence[Attempt]) -> set[Attempt]:
        """Those that had succeeded, and of which nothing but the next step is awaited, which was sent before."""
        # A part of a chord may not have been handed in yet; of others nothing follows, and they may run again.
        steps = [attempt for attempt in attempts if attempt.message.chain and not attempt.message.chord]
        if self._backend is None or not steps:
            return set()
        try:
            records = await self._backend.get([attempt.message.id for attempt in steps])
        except BackendError as error:
            logger.debug("What steps that come again had come to can't be read: %s", error)
            return set()
        return {step for step, raw in zip(steps, records, strict=True) if raw is not None and self._is_success(raw)}

    def _is_success(self, raw: bytes) -> bool:
        try:
            return decode_result(raw, limits=self._limits, accept=self._accept).status == "SUCCESS"
        except DecodeError:
            return False
