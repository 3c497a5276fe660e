"""The supervisor's decisions, without a process and without a clock."""

from __future__ import annotations

import math

import pytest

from asyncq._flight import Flight, Header, Phase, Stage
from asyncq.supervisor._judgement import (
    After,
    Attendance,
    End,
    Silence,
    deadline_of_drain,
    deadline_of_stop,
    find_culprit,
    is_stalled,
    what_follows,
)

NOW = 1000.0


def header(
    phase: Phase = Phase.READY,
    *,
    on_loop: int = 0,
    beats: int = 7,
    ended: int = 0,
    drain_until: float = 0.0,
    looks: int = 0,
    threads: int = 0,
) -> Header:
    return Header(
        phase=phase,
        on_loop=on_loop,
        beats=beats,
        ended=ended,
        stall_timeout=30.0,
        shutdown_timeout=8.0,
        kill_grace=2.0,
        drain_until=drain_until,
        looks=looks,
        threads=threads,
    )


def flight(slot: int = 1, stage: Stage = Stage.RUNNING, *, deadline: float = math.inf) -> Flight:
    return Flight(slot, stage, False, NOW - 10, deadline, f"id-{slot}", "shop.spin", "celery", "tag")


class TestSilence:
    def test_it_lasts_from_the_last_beat_that_was_another(self) -> None:
        silence = Silence(NOW)
        silence.hear(header(beats=1), NOW + 1)
        silence.hear(header(beats=1, looks=1), NOW + 5)
        assert silence.seconds(NOW + 5) == 4
        silence.hear(header(beats=2), NOW + 6)
        assert silence.seconds(NOW + 6) == 0

    def test_a_stopped_process_is_not_silent_until_it_goes_on(self) -> None:
        silence = Silence(NOW)
        silence.stop()
        assert silence.seconds(NOW + 100) == 0
        silence.resume(NOW + 100)
        assert silence.seconds(NOW + 101) == 1

    def test_what_is_forgiven_does_not_count(self) -> None:
        silence = Silence(NOW)
        silence.forgive(NOW + 100)
        assert silence.seconds(NOW + 100) == 0
        assert not silence.is_the_loops(NOW + 100)

    @pytest.mark.parametrize(
        ("last_look", "now", "verdict"),
        [
            (0.7, 1.9, False),  # it is too early to tell
            (0.7, 5, False),  # all have stopped, the loop a moment before the others
            (2.4, 5, False),
            (2.6, 5, True),
            (29, 30, True),
        ],
    )
    def test_it_is_the_loops_alone_while_others_have_their_turns(
        self, last_look: float, now: float, verdict: bool
    ) -> None:
        silence = Silence(NOW - 50)
        silence.hear(header(beats=1), NOW)
        silence.hear(header(beats=1, looks=1), NOW + last_look)
        silence.hear(header(beats=1, looks=1), NOW + now)
        assert silence.is_the_loops(NOW + now) is verdict


class TestAttendance:
    def test_who_is_a_little_late_was_there(self) -> None:
        attendance = Attendance(NOW)
        assert attendance.absence(NOW + 1.1, planned=0.2) == 0
        assert attendance.absence(NOW + 1.2, planned=0.2) == 0

    def test_who_is_very_late_was_away_for_the_difference(self) -> None:
        attendance = Attendance(NOW)
        assert attendance.absence(NOW + 30.2, planned=0.2) == pytest.approx(30)
        assert attendance.absence(NOW + 30.4, planned=0.2) == 0


class TestStalls:
    @pytest.mark.parametrize(
        ("silence", "deadline", "stalled"),
        [
            (0.9, NOW - 100, False),  # as long as others need for a turn
            (1.1, NOW - 1.9, False),  # overdue, but its grace runs
            (1.1, NOW - 2.1, True),
            (29.0, NOW + 100, False),
            (30.1, NOW + 100, True),
            (29.0, math.inf, False),
            (30.1, math.inf, True),
        ],
    )
    def test_a_task_on_the_loop_has_its_limit_and_everybody_the_timeout(
        self, silence: float, deadline: float, stalled: bool
    ) -> None:
        assert is_stalled(header(on_loop=1), flight(deadline=deadline), silence, NOW) is stalled

    def test_nobody_on_the_loop_has_the_timeout(self) -> None:
        assert not is_stalled(header(), None, 29.0, NOW)
        assert is_stalled(header(), None, 30.1, NOW)

    @pytest.mark.parametrize("phase", [Phase.CONDEMNED, Phase.STOPPING])
    def test_those_that_end_are_judged_too(self, phase: Phase) -> None:
        assert is_stalled(header(phase), None, 30.1, NOW)

    def test_those_that_start_may_take_their_time(self) -> None:
        assert not is_stalled(header(Phase.STARTING, beats=0), None, 3600.0, NOW)
        assert not is_stalled(header(Phase.STARTING), None, 299.0, NOW)
        assert is_stalled(header(Phase.STARTING), None, 301.0, NOW)

    def test_the_culprit_is_who_stands_on_the_loop_and_still_runs(self) -> None:
        flights = [flight(1), flight(2), flight(3, Stage.CONCLUDED)]
        for on_loop, culprit in ((2, flights[1]), (3, None), (4, None), (0, None)):
            assert find_culprit(header(on_loop=on_loop), flights, is_the_loops=False) == culprit

    def test_nobody_is_blamed_for_a_loop_that_a_thread_may_have_stopped(self) -> None:
        flights = [flight(1)]
        assert find_culprit(header(on_loop=1, threads=1), flights, is_the_loops=False) is None
        assert find_culprit(header(on_loop=1, threads=1), flights, is_the_loops=True) == flights[0]


class TestDeadlines:
    def test_a_stop_takes_what_the_child_has_said(self) -> None:
        assert deadline_of_stop(header(), asked_at=NOW, at_once_at=None) == NOW + 10

    def test_at_once_means_the_grace_alone_and_never_more(self) -> None:
        assert deadline_of_stop(header(), asked_at=NOW, at_once_at=NOW + 1) == NOW + 3
        assert deadline_of_stop(header(), asked_at=NOW, at_once_at=NOW + 9) == NOW + 10

    def test_who_still_imports_has_ten_seconds_or_none(self) -> None:
        assert deadline_of_stop(None, asked_at=NOW, at_once_at=None) == NOW + 10
        assert deadline_of_stop(None, asked_at=NOW, at_once_at=NOW + 1) == NOW + 1

    def test_only_a_condemned_child_has_a_deadline_to_drain(self) -> None:
        assert deadline_of_drain(header(Phase.CONDEMNED, drain_until=NOW + 5)) == NOW + 5
        assert deadline_of_drain(header(Phase.UNSETTLED, drain_until=NOW + 5)) == NOW + 5
        assert deadline_of_drain(header(Phase.UNSETTLED)) == math.inf
        assert deadline_of_drain(header(drain_until=NOW + 5)) == math.inf
        assert deadline_of_drain(None) == math.inf


class TestEnds:
    @pytest.mark.parametrize(
        ("end", "after"),
        [
            # As asked, burst, shut down from afar.
            (End(0, header(), []), After.NOTHING),
            (End(0, header(Phase.STOPPING), []), After.NOTHING),
            (End(0, header(Phase.UNSETTLED), [flight()]), After.NOTHING),
            (End(0, header(Phase.UNSETTLED), []), After.NOTHING),
            # Only the acknowledgement was on its way.
            (End(0, header(), [flight(stage=Stage.CONCLUDED)]), After.NOTHING),
            (End(0, header(), [flight()]), After.RESTART),
            (End(0, header(Phase.STOPPING), [flight()]), After.RESTART),
            (End(0, header(Phase.CONDEMNED, ended=1), [flight()]), After.RESTART),
            (End(0, header(Phase.CONDEMNED, ended=1), []), After.SUCCESSOR),
            (End(0, header(Phase.CONDEMNED), []), After.RESTART),
            (End(1, header(Phase.CONDEMNED, ended=1), []), After.RESTART),
            (End(1, None, []), After.RESTART),
            (End(-9, header(), []), After.RESTART),
            (End(2, header(), []), After.RESTART),
            (End(3, None, []), After.RESTART),
            # To make room for another.
            (End(0, header(), [], asked=True), After.SUCCESSOR),
            (End(-9, header(), [flight()], asked=True, put_down=True), After.SUCCESSOR),
            (End(-15, None, [], asked=True), After.SUCCESSOR),
        ],
    )
    def test_what_follows_once_a_child_was_ready(self, end: End, after: After) -> None:
        assert what_follows(end, first=False, watching=False) is after

    @pytest.mark.parametrize(
        ("code", "watching", "after"),
        [
            (2, False, After.GIVE_UP),
            (3, False, After.GIVE_UP),
            (1, False, After.RESTART),
            (2, True, After.CHANGE),
            (3, True, After.GIVE_UP),
        ],
    )
    def test_what_follows_before_any_was(self, code: int, watching: bool, after: After) -> None:
        assert what_follows(End(code, None, []), first=True, watching=watching) is after

    @pytest.mark.parametrize(
        ("end", "suspicious"),
        [
            (End(-11, header(), [flight()]), True),
            (End(1, header(), [flight()]), True),
            (End(0, header(), [flight()]), True),
            # A task ended it as if all was well.
            (End(0, header(Phase.STOPPING), [flight()], asked=True), True),
            (End(0, header(Phase.CONDEMNED), [flight(stage=Stage.ACKNOWLEDGED)]), True),
            # The broker was away at its end.
            (End(0, header(Phase.UNSETTLED), [flight()]), False),
            (End(0, header(Phase.UNSETTLED), []), False),
            (End(1, header(Phase.UNSETTLED), [flight()]), True),
            # A server went away.
            (End(3, header(), []), False),
            (End(3, header(), [flight()]), True),  # a task may call os._exit(3)
            # It crashed while it drained.
            (End(-11, header(), [flight()], asked=True), True),
            (End(-9, header(), [flight()], asked=True, put_down=True), False),
            (End(-9, header(), [flight()], culprit=flight()), False),
        ],
    )
    def test_who_is_suspected(self, end: End, suspicious: bool) -> None:
        assert not end.is_well
        assert end.is_suspicious is suspicious

    def test_a_conviction_is_an_achievement(self) -> None:
        assert End(-9, header(), [], culprit=flight()).achieved == 1
        assert End(-9, header(ended=3), []).achieved == 3
        assert End(-9, None, []).achieved == 0
