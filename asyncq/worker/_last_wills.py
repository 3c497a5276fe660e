"""Last wills of early-acknowledged tasks: written before they are acknowledged, void when they have ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asyncq._wills import drop_wills, needs_will, write_will
from asyncq.driver import Coordination
from asyncq.errors import BackendError, BrokerError, EncodeError
from asyncq.worker._attempt import Attempt
from asyncq.worker._conclusion import Conclusion

logger = logging.getLogger(__name__)


class LastWills:
    """A worker's. Without a store, or while it is away, tasks run all the same, and nobody is told when they are lost.

    Only a supervisor opens one; what an embedded worker leaves is forgotten.
    """

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination
        #: One was ever written: as long as none was, there is nothing to void.
        self._in_use = False

    async def write(self, attempt: Attempt) -> None:
        """Put down what is to be done, where there is something."""
        if not needs_will(attempt.message):
            return
        try:
            await write_will(self._coordination, attempt.message.id, attempt.delivery)
        except (BrokerError, BackendError, EncodeError) as error:
            logger.warning("What waits for %s will not be told if it is lost with this worker: %s", attempt, error)
        else:
            attempt.has_will = self._in_use = True

    async def void(self, conclusions: Sequence[Conclusion]) -> None:
        """These have ended, or go on under a message of their own; all that follows is done."""
        if not self._in_use:
            return
        ended = [a.message.id for c in conclusions if (a := c.attempt) is not None and a.has_will]
        if not ended:
            return
        try:
            await drop_wills(self._coordination, ended)
        except (BrokerError, BackendError) as error:
            logger.debug("%d last wills stay until they are forgotten: %s", len(ended), error)
