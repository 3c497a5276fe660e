"""What is done for one dead or dying child, however often it must be tried."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from asyncq._flight import Flight, Header
from asyncq.supervisor._delays import doubling
from asyncq.supervisor._judgement import End
from asyncq.supervisor._rescuer import Rescuer

__all__ = ["Rescue"]

# `Any` below: the values of a JSON document.

logger = logging.getLogger(__name__)

#: Seconds for one answer: its first takes as long as the drivers need to be imported, on a machine that may be busy.
_PATIENCE = 20.0
#: Seconds from a failure to the next attempt: at first, and at most.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
#: About three minutes. By then the leases have ended, and others do what is left to do.
_ATTEMPTS = 10
#: So many of them are made to put right what speaks against tasks: what is to be handed back waits for it.
_PATIENT_ATTEMPTS = 4
#: Seconds that a rescuer gets to end when there is nothing more to do.
_FAREWELL = 5.0


class Rescue:
    """The commands for a rescuer in their order, each repeated until it is done. `look` does what is due."""

    def __init__(self, start: Callable[[], Rescuer], node: str) -> None:
        self._start = start
        self._node = node
        self._commands: deque[dict[str, Any]] = deque()
        #: The verdict could not be made known: what is buried then is under suspicion, the culprit among it.
        self._verdict_is_lost = False
        #: No more commands will come.
        self._complete = False
        self._rescuer: Rescuer | None = None
        self._asked_at: float | None = None
        self._is_dismissed = False
        self._farewell_until = math.inf
        self._failures = 0
        self._next_at = -math.inf

    @property
    def is_idle(self) -> bool:
        """Everything that was asked for is done."""
        return not self._commands

    @property
    def is_over(self) -> bool:
        """It is done or given up, and its process is gone."""
        return self._complete and self.is_idle and self._rescuer is None

    def convict(self, header: Header, culprit: Flight) -> None:
        """Have it known that this task is guilty: whoever receives it next doesn't run it."""
        if math.isfinite(culprit.deadline):
            limit = round(culprit.deadline - culprit.started_at, 3)
            reason = f"it blocked its worker's event loop beyond its time limit of {limit:g} s"
        else:
            limit = header.stall_timeout
            reason = f"it blocked its worker's event loop for {limit:g} s"
        self._order({"do": "convict", "task_id": culprit.task_id, "reason": reason, "limit": limit})

    def bury(self, end: End) -> None:
        """Have everything settled or handed back that the dead node held. It is the last command."""
        culprit = 0 if end.culprit is None else end.culprit.slot
        suspect = end.is_suspicious or self._verdict_is_lost
        who = {"node": self._node, "flights": end.flights, "suspect": suspect, "culprit": culprit}
        self._order({"do": "bury", **who, "patient": self._failures < _PATIENT_ATTEMPTS})
        self._complete = True

    def dismiss(self) -> None:
        """Nobody has died."""
        self._complete = True

    def abandon(self) -> None:
        """There is no more time: leave it to the leases."""
        if self._commands:
            logger.error("No time to rescue the tasks of %s: they come back when their leases end", self._node)
        self._give_up()
        if self._rescuer is not None:
            self._rescuer.kill()
            self._rescuer = None

    @property
    def is_at_work(self) -> bool:
        """It has a process."""
        return self._rescuer is not None

    def look(self, now: float, *, may_start: bool = True) -> None:
        """Start the rescuer, take its answer, tell it what is next: whatever can be done without waiting."""
        if may_start:
            self._begin(now)
        self._listen(now)
        self._go_on(now)

    def _begin(self, now: float) -> None:
        if self._rescuer is not None or now < self._next_at or (self._complete and self.is_idle):
            return
        try:
            self._rescuer = self._start()
        except OSError as error:
            self._fail(str(error), now)

    def _listen(self, now: float) -> None:
        if self._rescuer is None:
            return
        answer = self._rescuer.answer()
        if answer == "ok" and self._asked_at is not None:
            self._commands.popleft()
            self._asked_at = None
            self._failures = 0
        elif answer is not None:
            self._fail(answer.removeprefix("failed: "), now)
        elif self._rescuer.is_deaf and not self._is_dismissed:
            self._fail("it has ended", now)
        elif self._asked_at is not None and now - self._asked_at > _PATIENCE:
            self._fail(f"no answer within {_PATIENCE:g} s", now)

    def _go_on(self, now: float) -> None:
        if self._rescuer is None or self._asked_at is not None:
            return
        if self._commands:
            self._rescuer.tell(json.dumps(self._commands[0]).encode())
            self._asked_at = now
        elif self._complete:
            self._see_off(self._rescuer, now)

    def _see_off(self, rescuer: Rescuer, now: float) -> None:
        if not self._is_dismissed:
            self._is_dismissed = True
            self._farewell_until = now + _FAREWELL
            rescuer.dismiss()
        if rescuer.has_ended or now > self._farewell_until:
            rescuer.kill()
            self._rescuer = None

    def _fail(self, reason: str, now: float) -> None:
        if self._rescuer is not None:
            self._rescuer.kill()
            self._rescuer = None
        self._asked_at = None
        self._failures += 1
        if self._failures == _ATTEMPTS:
            logger.error("Rescue of the tasks of %s failed: %s", self._node, reason, extra=self._fields)
            self._give_up()
            return
        if self._failures == _PATIENT_ATTEMPTS:
            self._lose_patience(reason)
        delay = doubling(self._failures, _FIRST_DELAY, _LONGEST_DELAY)
        self._next_at = now + delay
        text = "Rescue of the tasks of %s failed, trying again in %g s: %s"
        logger.warning(text, self._node, delay, reason, extra=self._fields)

    def _lose_patience(self, reason: str) -> None:
        """The innocent have waited long enough for what is to be said of their neighbours."""
        if self._commands and self._commands[0]["do"] == "convict":
            task_id = self._commands.popleft()["task_id"]
            fields = self._fields | {"task_id": task_id}
            logger.error("Task %s could not be convicted: %s", task_id, reason, extra=fields)
            self._verdict_is_lost = True
        for command in self._commands:
            command |= {"suspect": command["suspect"] or self._verdict_is_lost, "patient": False}

    def _give_up(self) -> None:
        self._complete = True
        self._commands.clear()

    def _order(self, command: dict[str, Any]) -> None:
        if not self._complete:
            self._commands.append(command)

    @property
    def _fields(self) -> dict[str, object]:
        return {"node": self._node}
