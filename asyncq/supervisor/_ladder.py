"""What becomes of a child whose loop stands still: step by step, up to its end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from enum import Enum, auto

from asyncq._flight import Flight, Header
from asyncq.supervisor._child import Child
from asyncq.supervisor._judgement import SILENT, find_culprit, is_stalled
from asyncq.supervisor._rescue import Rescue

__all__ = ["StallLadder"]

logger = logging.getLogger(__name__)

#: Seconds before the verdict at which the rescuer is started: it imports drivers, and shall be there in time.
_FORESIGHT = 3.0
#: The same before the end of the time that a child has to drain: if it takes that long, something has gone wrong.
_FORESIGHT_OF_END = 1.5
#: Seconds that the verdict may take to become known; then the child is killed all the same.
_CONVICTION = 5.0
#: Seconds for the child to write where its threads stand.
_DUMP = 0.2


class _Step(Enum):
    WATCHED = auto()
    CONVICTED = auto()
    DUMPED = auto()
    KILLED = auto()


class StallLadder:
    """The steps for one child. A guilty task is convicted *before* the kill: after it, others may have it at once."""

    def __init__(self, child: Child, open_rescue: Callable[[Child], Rescue | None]) -> None:
        self._child = child
        self._open_rescue = open_rescue
        self._step = _Step.WATCHED
        self._since = 0.0
        #: Started early, or about to hand back what the child held; whoever buries the child goes on with it.
        self.rescue: Rescue | None = None
        self._is_expected = False
        #: The task that held the loop, once there is a verdict.
        self.culprit: Flight | None = None

    @property
    def has_killed(self) -> bool:
        return self._step is _Step.KILLED

    def expect_end(self, left: float) -> None:
        """The child has so many seconds left. When they run out it may have to be killed: have the rescuer ready."""
        if left < _FORESIGHT_OF_END and not self._is_expected:
            self._is_expected = True
            self.rescue = self.rescue or self._open_rescue(self._child)

    def stand_down(self) -> None:
        """There is nothing to rescue."""
        if self.rescue is not None:
            self.rescue.dismiss()
            self.rescue = None

    def climb(self, header: Header, now: float) -> None:
        """Take the step that is due."""
        match self._step:
            case _Step.WATCHED:
                self._watch(header, now)
            case _Step.CONVICTED:
                known = self.rescue is None or self.rescue.is_idle
                if known or now - self._since > _CONVICTION:
                    self._child.signal(signal.SIGUSR1)
                    self._go_to(_Step.DUMPED, now)
            case _Step.DUMPED:
                if now - self._since >= _DUMP:
                    self._child.kill()
                    self._go_to(_Step.KILLED, now)
            case _Step.KILLED:
                pass

    def _watch(self, header: Header, now: float) -> None:
        silence = self._child.silence.seconds(now)
        if silence <= SILENT:
            if not self._is_expected:
                self.stand_down()
            return
        culprit = find_culprit(header, self._child.flights(), is_the_loops=self._child.silence.is_the_loops(now))
        if is_stalled(header, culprit, silence, now):
            self._sentence(header, culprit, silence, now)
        elif self.rescue is None and is_stalled(header, culprit, silence + _FORESIGHT, now + _FORESIGHT):
            self.rescue = self._open_rescue(self._child)

    def _sentence(self, header: Header, culprit: Flight | None, silence: float, now: float) -> None:
        if self.rescue is None:
            self.rescue = self._open_rescue(self._child)
        self.culprit = culprit
        fields = self._child.log_fields | {"silent_for": silence}
        if culprit is None:
            logger.error("%s stands still, and no task is to blame: killing it", self._child.node, extra=fields)
        else:
            fields |= {"task": culprit.task, "task_id": culprit.task_id, "queue": culprit.queue}
            text = "%s[%s] blocks the event loop of %s: killing the process"
            logger.error(text, culprit.task, culprit.task_id, self._child.node, extra=fields)
            if self.rescue is not None:
                self.rescue.convict(header, culprit)
        self._go_to(_Step.CONVICTED, now)

    def _go_to(self, step: _Step, now: float) -> None:
        self._step, self._since = step, now
