"""The flight table: what stands there, from the writer's end and from the reader's."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from typing import Any

import pytest

from asyncq._flight import (
    Flight,
    FlightRecorder,
    Phase,
    Stage,
    create,
    read_brief,
    read_flights,
    read_header,
)


@pytest.fixture
def table() -> Generator[int]:
    descriptor = create()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def recorder(table: int) -> FlightRecorder:
    return make(table)


def make(table: int, *, slots: int = 3, brief: bytes = b"") -> FlightRecorder:
    return FlightRecorder(table, slots=slots, stall_timeout=30.0, shutdown_timeout=8.0, kill_grace=2.0, brief=brief)


def enter(recorder: FlightRecorder, **fields: Any) -> int:
    given: dict[str, Any] = {
        "task_id": "id-1",
        "task": "shop.add",
        "queue": "celery",
        "tag": "tag-1",
        "started_at": 1.5,
        "deadline": math.inf,
        "ignore_result": False,
    }
    return recorder.enter(**given | fields)


def test_nothing_stands_there_before_the_child_has_begun(table: int) -> None:
    assert read_header(table) is None
    assert read_flights(table) == []
    assert read_brief(table) == b""


def test_the_header_says_what_the_worker_says(table: int, recorder: FlightRecorder) -> None:
    recorder.beat()
    recorder.beat()
    recorder.on_loop[0] = 2
    recorder.count_ended(3)
    recorder.count_ended()
    recorder.set_phase(Phase.READY)
    header = read_header(table)
    assert header is not None
    assert (header.phase, header.on_loop, header.beats, header.ended) == (Phase.READY, 2, 2, 4)
    recorder.look()
    recorder.count_threads(2)
    recorder.count_threads(-1)
    header = read_header(table)
    assert header is not None
    assert (header.looks, header.threads) == (1, 1)
    assert (header.stall_timeout, header.shutdown_timeout, header.kill_grace) == (30.0, 8.0, 2.0)
    recorder.condemn(77.0)
    header = read_header(table)
    assert header is not None
    assert (header.phase, header.drain_until) == (Phase.CONDEMNED, 77.0)


def test_a_flight_from_its_start_to_its_end(table: int, recorder: FlightRecorder) -> None:
    slot = enter(recorder, deadline=31.5, ignore_result=True)
    expected = Flight(slot, Stage.RUNNING, True, 1.5, 31.5, "id-1", "shop.add", "celery", "tag-1")
    assert read_flights(table) == [expected]
    recorder.conclude(slot)
    assert [flight.stage for flight in read_flights(table)] == [Stage.CONCLUDED]
    recorder.leave(slot)
    assert read_flights(table) == []


def test_what_was_acknowledged_before_says_so(table: int, recorder: FlightRecorder) -> None:
    recorder.acknowledge(enter(recorder))
    assert [flight.stage for flight in read_flights(table)] == [Stage.ACKNOWLEDGED]


def test_what_begins_later_than_it_has_entered_has_its_time_from_then_on(table: int, recorder: FlightRecorder) -> None:
    slot = enter(recorder, started_at=1.5, deadline=31.5)
    recorder.start(slot, 5.0, 35.0)
    assert read_flights(table) == [Flight(slot, Stage.RUNNING, False, 5.0, 35.0, "id-1", "shop.add", "celery", "tag-1")]


@pytest.mark.parametrize("length", [0, 1, 200, 236, 237, 255, 256, 900, 1900])
def test_texts_of_any_length_come_out_as_they_went_in(table: int, recorder: FlightRecorder, length: int) -> None:
    enter(recorder, task_id="before", tag="y" * 300)
    slot = enter(recorder, tag="x" * length)
    enter(recorder, task_id="after")
    assert next(flight.tag for flight in read_flights(table) if flight.slot == slot) == "x" * length
    assert {flight.task_id for flight in read_flights(table)} == {"before", "id-1", "after"}


def test_a_slot_shows_nothing_of_who_had_it_before(table: int, recorder: FlightRecorder) -> None:
    recorder.leave(enter(recorder, task="a" * 700, tag="b" * 700))
    enter(recorder, tag="c")
    [flight] = read_flights(table)
    assert (flight.task, flight.tag) == ("shop.add", "c")


def test_a_tag_that_does_not_fit_is_left_out(table: int, recorder: FlightRecorder) -> None:
    assert enter(recorder, tag="x" * 3000)
    assert [flight.tag for flight in read_flights(table)] == [""]


def test_what_has_no_place_is_nobodys_suspect(table: int, recorder: FlightRecorder) -> None:
    assert enter(recorder, task="x" * 3000) == 0
    assert all(enter(recorder) for _ in range(3))
    assert enter(recorder) == 0
    recorder.acknowledge(0)
    recorder.start(0, 1.5, 2.5)
    recorder.conclude(0)
    recorder.leave(0)
    assert [flight.stage for flight in read_flights(table)] == [Stage.RUNNING] * 3


def test_text_that_cannot_be_written_is_no_fault(table: int, recorder: FlightRecorder) -> None:
    enter(recorder, task_id="\ud800")
    assert [flight.task_id for flight in read_flights(table)] == ["?"]


def test_the_brief_stands_behind_the_slots(table: int) -> None:
    recorder = make(table, brief=b"who and where")
    enter(recorder)
    assert read_brief(table) == b"who and where"
    del recorder
    assert read_brief(table) == b"who and where"


def test_a_slot_that_is_half_written_is_not_there_yet(table: int, recorder: FlightRecorder) -> None:
    enter(recorder, task_id="half")
    enter(recorder, task_id="whole")
    content = os.pread(table, os.fstat(table).st_size, 0)
    os.pwrite(table, b"half a text", content.index(b"half\0"))
    assert [flight.task_id for flight in read_flights(table)] == ["whole"]
