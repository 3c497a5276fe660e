"""The loop that keeps the children alive."""

from __future__ import annotations

import logging
import os
import selectors
import signal
from collections.abc import Callable
from functools import partial

from asyncq._flight import Header, Phase
from asyncq._stop_signals import STOPPING, means_at_once
from asyncq.supervisor._breaker import CrashLoop, CrashLoopBreaker
from asyncq.supervisor._child import Child, describe_end, describe_flights
from asyncq.supervisor._config import SupervisorConfig
from asyncq.supervisor._judgement import After, Attendance, End, what_follows, what_follows_wear
from asyncq.supervisor._ladder import StallLadder
from asyncq.supervisor._reaper import Change, Happened, Reaper
from asyncq.supervisor._reload import SourceWatch
from asyncq.supervisor._rescue import Rescue
from asyncq.supervisor._rescuer import Rescuer
from asyncq.supervisor._signals import Signals

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

#: Seconds from one look at the children to the next, unless something happens before.
_TICK = 0.2
#: Seconds from one look at the source files to the next.
_SCAN = 0.5
#: Rescuers at a time: each loads drivers, when many children die the machine may have no memory to spare.
_RESCUERS = 2
#: Seconds that are left for rescues when all children are gone, and none of them comes to its end.
_LAST_RESCUES = 5.0
#: Exit code of a supervisor that can't do what it is there for.
_FAILED = 1


class _Seat:
    """A place for one child. Those that are worn out drain without one."""

    def __init__(self) -> None:
        self.child: Child | None = None
        #: When the next child is to be started; None while there is one, or while nobody knows.
        self.start_at: float | None = None


class Supervisor:
    """Runs as many children as it was told to, until there is nothing left to run. It never waits for one of them."""

    def __init__(self, config: SupervisorConfig, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._reaper = Reaper()
        self._signals = Signals()
        self._breaker = CrashLoopBreaker()
        self._seats = [_Seat() for _ in range(config.processes)]
        #: Every child that lives, with or without a seat.
        self._ladders: dict[Child, StallLadder] = {}
        self._rescues: list[Rescue] = []
        self._started = 0
        self._any_was_ready = self._all_were_ready = False
        self._sources = SourceWatch(".") if config.reload else None
        self._scan_at = 0.0
        self._is_stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Return the exit code: 0 when nothing was lost."""
        now = self._clock()
        attendance = Attendance(now)
        for seat in self._seats:
            seat.start_at = now
        with self._signals, self._selector:
            self._selector.register(self._signals.descriptor, selectors.EVENT_READ, lambda: None)
            self._fill_seats(now)
            while self._ladders or (self._seats and not self._is_stopping):
                self._turn(attendance)
            self._finish_rescues(attendance)
        logger.debug("Exit with code %d", self._exit_code)
        return self._exit_code

    def _turn(self, attendance: Attendance) -> None:
        nap = self._nap()
        ready = self._selector.select(nap)
        now = self._clock()
        if absence := attendance.absence(now, nap):
            logger.warning("The supervisor was away for %.1f s: no child is judged by that time", absence)
            for child in self._ladders:
                child.forgive(now, absence)
        for key, _ in ready:
            key.data()
        self._reaper.reap()
        for number in self._signals.take():
            if number in STOPPING:
                self._obey(number)
        for child in tuple(self._ladders):
            self._look_after(child, now)
        self._look_at_rescues(now)
        self._look_at_sources(now)
        self._fill_seats(now)

    def _nap(self) -> float:
        """Seconds until something is due."""
        starts = [seat.start_at - self._clock() for seat in self._seats if seat.start_at is not None]
        return max(0.0, min(_TICK, *starts)) if starts else _TICK

    # -- starting ------------------------------------------------------------------------------------------------

    def _fill_seats(self, now: float) -> None:
        for seat in self._seats:
            if seat.start_at is not None and now >= seat.start_at and not self._is_stopping:
                self._start(seat, now)

    def _start(self, seat: _Seat, now: float) -> None:
        seat.start_at = None
        self._started += 1
        try:
            child = Child(self._config, self._started, now)
        except OSError as error:
            logger.error("No process could be started: %s", error)  # noqa: TRY400 - the traceback is ours
            self._restart_later(seat, now, 0)
            return
        seat.child = child
        self._ladders[child] = StallLadder(child, self._open_rescue)
        self._reaper.watch(child.pid, partial(self._on_change, seat, child))
        # The first ones are no news: they are what the user has just asked for.
        level = logging.DEBUG if self._started <= len(self._seats) else logging.INFO
        logger.log(level, "Started %s", child.node, extra=child.log_fields)

    def _restart_later(self, seat: _Seat, now: float, achieved: int) -> None:
        try:
            seat.start_at = now + self._breaker.delay(now, achieved)
        except CrashLoop as error:
            logger.critical("Giving up: %s", error)
            self._give_up(_FAILED)

    # -- watching ------------------------------------------------------------------------------------------------

    def _look_after(self, child: Child, now: float) -> None:
        header = child.header()
        if header is not None:
            child.silence.hear(header, now)
            self._note_readiness(child, header)
            self._replace_worn_out(child, header)
            self._ladders[child].climb(header, now)
        left = child.deadline(header) - now
        self._ladders[child].expect_end(left)
        if left < 0 and not child.is_killed:
            logger.warning("%s does not end in time: killing it", child.node, extra=child.log_fields)
            child.kill()

    def _note_readiness(self, child: Child, header: Header) -> None:
        if header.phase in (Phase.READY, Phase.CONDEMNED) and not child.was_ready:
            child.was_ready = self._any_was_ready = True
            self._tell_ready(child)

    def _replace_worn_out(self, child: Child, header: Header) -> None:
        seat = next((seat for seat in self._seats if seat.child is child), None)
        if header.phase is Phase.CONDEMNED and seat is not None and child.asked_at is None:
            child.is_replaced = True
            seat.child = None
            logger.info("%s is worn out: it drains, another takes its place", child.node, extra=child.log_fields)
            self._go_on(seat, what_follows_wear(header.ended), header.ended)

    def _tell_ready(self, child: Child) -> None:
        if self._all_were_ready:
            logger.info("%s is ready", child.node, extra=child.log_fields)
        elif all(seat.child is not None and seat.child.was_ready for seat in self._seats):
            self._all_were_ready = True
            # A single child has said so itself.
            level = logging.INFO if self._config.processes > 1 else logging.DEBUG
            logger.log(level, "Ready: %d processes", self._config.processes)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _on_change(self, seat: _Seat, child: Child, change: Change) -> None:
        match change.happened:
            case Happened.STOPPED:
                child.silence.stop()
                logger.warning("%s was stopped by a signal", child.node, extra=child.log_fields)
            case Happened.CONTINUED:
                child.silence.resume(self._clock())
                logger.info("%s goes on", child.node, extra=child.log_fields)
            case Happened.ENDED:
                self._on_end(seat, child, change.code)

    def _on_end(self, seat: _Seat, child: Child, code: int) -> None:
        ladder = self._ladders.pop(child)
        end = End(
            code,
            child.header(),
            child.flights(),
            asked=child.asked_at is not None,
            put_down=child.is_killed and not ladder.has_killed,
            culprit=ladder.culprit,
        )
        if end.header is not None:
            self._note_readiness(child, end.header)
        if end.is_well:
            logger.debug("%s has ended", child.node, extra=child.log_fields)
            ladder.stand_down()
        else:
            self._bury(child, ladder, end)
        child.close(code, orderly=end.is_orderly)
        if seat.child is child:
            seat.child = None
            if not self._is_stopping:
                after = what_follows(end, first=not self._any_was_ready, watching=self._sources is not None)
                self._go_on(seat, after, end.achieved, code)

    def _bury(self, child: Child, ladder: StallLadder, end: End) -> None:
        # That it didn't end in time was told; it is a loss to nobody when nothing was under way.
        is_told = end.is_explained or (end.put_down and not end.flights)
        level = logging.DEBUG if is_told else logging.ERROR
        how = "was killed" if child.is_killed else f"died: {describe_end(end.code)}"
        fields = child.log_fields | {"under_way": describe_flights(end.flights)}
        logger.log(level, "%s %s", child.node, how, extra=fields)
        if not end.may_hold_messages:
            ladder.stand_down()
        elif rescue := ladder.rescue or self._open_rescue(child):
            rescue.bury(end)

    def _go_on(self, seat: _Seat, after: After, achieved: int, code: int = 0) -> None:
        now = self._clock()
        match after:
            case After.NOTHING:
                self._seats.remove(seat)
            case After.SUCCESSOR:
                seat.start_at = now
            case After.RESTART:
                self._restart_later(seat, now, achieved)
            case After.CHANGE:
                logger.info("Waiting for a change of the source")
            case After.GIVE_UP:
                self._give_up(code)

    # -- rescues -------------------------------------------------------------------------------------------------

    def _open_rescue(self, child: Child) -> Rescue | None:
        brief = child.brief()
        if not brief:
            return None  # it has said why
        command = [*self._config.python, *self._config.rescue_program]
        rescue = Rescue(partial(Rescuer, command, brief, self._selector, self._reaper), child.node)
        self._rescues.append(rescue)
        return rescue

    def _look_at_rescues(self, now: float) -> None:
        for rescue in sorted(self._rescues, key=lambda each: each.is_idle):  # what is only got ready comes last
            working = sum(each.is_at_work for each in self._rescues)
            rescue.look(now, may_start=working < _RESCUERS)
        self._rescues = [rescue for rescue in self._rescues if not rescue.is_over]

    def _finish_rescues(self, attendance: Attendance) -> None:
        """Nothing is left to supervise; what was begun for the dead is ended, in bounded time."""
        left, until = len(self._rescues), self._clock() + _LAST_RESCUES
        while self._rescues and self._clock() < until:
            self._turn(attendance)
            if len(self._rescues) < left:  # the others wait for their turn
                left, until = len(self._rescues), self._clock() + _LAST_RESCUES
        for rescue in self._rescues:
            if not rescue.is_idle:
                self._exit_code = self._exit_code or _FAILED
            rescue.abandon()

    # -- stopping and reloading ----------------------------------------------------------------------------------

    def _obey(self, number: signal.Signals) -> None:
        at_once = self._is_stopping or means_at_once(number, os.environ)
        if at_once:
            logger.warning("%s: stopping at once", number.name)
        else:
            logger.info("%s: taking nothing new, finishing what runs; once more stops at once", number.name)
        self._stop(at_once=at_once)

    def _give_up(self, code: int) -> None:
        self._exit_code = code
        self._stop()

    def _stop(self, *, at_once: bool = False) -> None:
        self._is_stopping = True
        now = self._clock()
        for child in self._ladders:
            child.ask_to_stop(now, at_once=at_once)

    def _look_at_sources(self, now: float) -> None:
        if self._sources is None or self._is_stopping or now < self._scan_at:
            return
        self._scan_at = now + _SCAN
        changed = self._sources.changes()
        if not changed:
            return
        logger.info("%s changed: starting anew", ", ".join(changed))
        self._breaker.reset()
        for seat in self._seats:
            if seat.child is None:
                seat.start_at = now
            else:
                seat.child.ask_to_stop(now)
