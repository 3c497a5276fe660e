"""What becomes of a canvas when one of its tasks fails."""

from __future__ import annotations

import asyncio
import logging
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from asyncq import Context
from asyncq.driver import ChordOpening
from asyncq.errors import Ignore
from asyncq.protocol import TaskMessage, encode_task
from asyncq.worker._continuation import Continuation
from worker.canvas_bench import CanvasBench, chain, chord, group, sig


@pytest.fixture
def bench() -> CanvasBench:
    bench = CanvasBench()

    async def add(x: int, y: int) -> int:
        return x + y

    async def echo(*args: Any) -> list[Any]:
        return list(args)

    async def fail(*_: Any) -> None:
        raise ValueError("boom", 1)

    async def ignore() -> None:
        raise Ignore

    for task in (add, echo, ignore):
        bench.task(task)
    bench.task(fail, throws=(ValueError,))
    return bench


async def test_the_later_steps_of_a_chain_fail_with_it(bench: CanvasBench) -> None:
    frozen = bench.planner().freeze(chain(sig("fail"), sig("add", 1), chord([sig("add", 2)], sig("echo"))))
    last = await bench.start(frozen)
    async with bench.worker():
        assert await bench.error(last) == ("ValueError", ["boom", 1])
        document = frozen.to_dict()
        assert await bench.error(document["kwargs"]["tasks"][1]["options"]["task_id"]) == ("ValueError", ["boom", 1])


async def test_a_step_that_did_not_run_says_which_one_has_failed(bench: CanvasBench) -> None:
    frozen = bench.planner().freeze(chain(sig("add", 1, 1), sig("fail"), sig("echo"), sig("echo")))
    last = await bench.start(frozen)
    async with bench.worker():
        await bench.error(last)
    _, failed, next_step, _ = (step["options"]["task_id"] for step in frozen.to_dict()["kwargs"]["tasks"])
    records = [await bench.record(task_id) for task_id in (next_step, last)]
    assert [None if record is None else record.parent_id for record in records] == [failed, failed]


async def test_errbacks_of_the_new_style_are_called_where_the_task_failed(bench: CanvasBench) -> None:
    called: list[tuple[str, str, str]] = []

    async def told(request: TaskMessage, exc: Exception, traceback: str, note: str) -> None:
        called.append((request.id, repr(exc), note))
        assert "boom" in traceback

    def told_in_a_thread(request: TaskMessage, exc: Exception, traceback: str) -> None:
        called.append((request.id, repr(exc), "thread"))

    def breaks(*_: Any) -> None:
        raise RuntimeError("an errback's own fault")

    for task in (told, told_in_a_thread, breaks):
        bench.task(task)
    errbacks = [sig("breaks"), sig("told", "a note"), sig("told_in_a_thread")]
    failed = await bench.start(sig("fail", link_error=[each.to_dict() for each in errbacks]))
    async with bench.worker():
        await bench.error(failed)
        await bench.until(lambda depth: depth.ready == depth.in_flight == 0)
    assert called == [(failed, "ValueError('boom', 1)", "a note"), (failed, "ValueError('boom', 1)", "thread")]


async def test_errbacks_of_the_old_style_are_tasks_with_the_failed_ones_id(bench: CanvasBench) -> None:
    got: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()

    async def old(ctx: Context, task_id: str) -> None:
        await got.put((task_id, ctx.parent_id))

    bench.task(old)
    failed = await bench.start(sig("fail", link_error=sig("old").to_dict()))
    async with bench.worker(), asyncio.timeout(10):
        assert await got.get() == (failed, failed)


async def test_errbacks_run_once_at_a_hard_limit(bench: CanvasBench) -> None:
    called: list[str] = []

    async def told(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        called.append(type(exc).__name__)

    async def long() -> None:
        await asyncio.sleep(60)

    bench.task(told)
    bench.task(long, time_limit=0.05)
    failed = await bench.start(sig("long", link_error=[sig("told").to_dict()]))
    async with bench.worker():
        await bench.error(failed)
        await bench.until(lambda depth: depth.ready == depth.in_flight == 0)
    assert called == ["TimeLimitExceeded"]


class Odd(BaseException):
    """What `except Exception` lets pass."""


@pytest.mark.parametrize("raised", [asyncio.CancelledError, Odd])
async def test_nothing_that_an_errback_raises_costs_the_others_theirs(
    bench: CanvasBench, raised: type[BaseException]
) -> None:
    called: list[str] = []

    async def breaks(request: TaskMessage, exc: Exception, traceback: str) -> None:
        raise raised  # for example: it has awaited something that was cancelled

    async def told(request: TaskMessage, exc: Exception, traceback: str) -> None:
        called.append(request.id)

    bench.task(breaks)
    bench.task(told)
    errbacks = [sig("breaks").to_dict(), sig("told").to_dict()]
    async with bench.worker():
        failed = [await bench.start(sig("fail", link_error=errbacks)) for _ in range(3)]
        for task_id in failed:
            await bench.error(task_id)
        await bench.until(lambda depth: depth.ready == depth.in_flight == 0)
        assert await bench.value(await bench.start(sig("add", 1, 2))) == 3
    assert sorted(called) == sorted(failed)


async def test_an_errback_that_hangs_holds_nobody_up(bench: CanvasBench) -> None:
    begun = asyncio.Event()

    async def hangs(request: TaskMessage, exc: Exception, traceback: str) -> None:
        begun.set()
        await asyncio.sleep(3600)

    bench.task(hangs)
    await bench.start(sig("fail", link_error=[sig("hangs").to_dict()]))
    async with bench.worker(shutdown_timeout=0.1, kill_grace=0.5):
        async with asyncio.timeout(10):
            await begun.wait()
        assert await bench.value(await bench.start(sig("add", 1, 2))) == 3
    assert (await bench.depth()).ready == 0  # cut off at the end, it is not run again


async def test_a_chord_that_collects_gives_its_body_the_failures(bench: CanvasBench) -> None:
    policy = {"asyncq-chord": {"on_error": "collect"}}
    body = await bench.start(chord([sig("add", 1, 1), sig("fail")], sig("echo", headers=policy)))
    async with bench.worker():
        [[two, failure]] = await bench.value(body)
    assert two == 2
    assert (failure["exc_type"], failure["exc_message"]) == ("ValueError", ["boom", 1])


@pytest.mark.parametrize(("threshold", "runs"), [(2, True), (3, False), (0.5, True), (0.9, False)])
async def test_a_chord_with_a_threshold(bench: CanvasBench, threshold: float, runs: bool) -> None:
    policy = {"asyncq-chord": {"threshold": threshold}}
    body = await bench.start(chord([sig("add", 1, 1), sig("fail"), sig("add", 2, 2)], sig("echo", headers=policy)))
    async with bench.worker():
        assert (await bench.final(body)).status == ("SUCCESS" if runs else "FAILURE")


async def test_what_follows_a_body_that_does_not_run_fails_too(bench: CanvasBench) -> None:
    last = await bench.start(chain(group(sig("fail"), sig("add", 1, 1)), sig("echo"), sig("echo")))
    async with bench.worker():
        kind, _ = await bench.error(last)
    assert kind == "ChordError"


async def test_a_chord_in_a_chords_header_fails_the_outer_one(bench: CanvasBench) -> None:
    inner = chord([sig("add", 1, 1), sig("fail")], sig("echo"))
    body = await bench.start(chord([inner, sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        kind, [text] = await bench.error(body)
    assert kind == "ChordError"
    assert "ChordError" in text


async def test_the_errbacks_of_a_body_that_does_not_run_are_called(bench: CanvasBench) -> None:
    told: asyncio.Queue[tuple[str, str, str | None]] = asyncio.Queue()

    async def on_error(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        await told.put((request.id, type(exc).__name__, traceback))

    bench.task(on_error)
    body = await bench.start(chord([sig("fail")], sig("echo", link_error=[sig("on_error").to_dict()])))
    async with bench.worker(), asyncio.timeout(10):
        assert await told.get() == (body, "ChordError", None)
    assert told.empty()


async def test_the_members_of_a_group_that_is_a_body_fail_with_the_cause(bench: CanvasBench) -> None:
    group_id = await bench.start(chord([sig("fail")], group(sig("echo"), sig("echo"))))
    async with bench.worker():
        assert await bench.error(group_id) == ("ValueError", ["boom", 1])


@pytest.mark.parametrize(
    "odd",
    [
        {"options": {"task_id": "body", "link": 5}},
        {"options": {"task_id": "body", "chain": 5}},
        {"subtask_type": ["chain"]},
        {"subtask_type": "chain", "kwargs": {"tasks": []}},
        {"args": 7},
    ],
    ids=["link", "chain", "kind", "empty", "arguments"],
)
async def test_who_waits_for_a_body_that_cannot_be_read_is_told(bench: CanvasBench, odd: dict[str, Any]) -> None:
    body = {**sig("echo", task_id="body").to_dict(), **odd}
    await bench.chords.open([ChordOpening(group_id="g", size=1, expires=60)])
    async with bench.worker():
        await bench.send("add", 1, 1, group="g", group_index=0, chord=body)
        kind, _ = await bench.error("body")
        assert kind == "ChordError"
        await bench.until(lambda depth: depth.ready == depth.in_flight == 0)
    assert await bench.chords.overdue(10) == []


async def test_a_fault_of_asyncqs_on_the_way_to_a_body_fails_it(
    bench: CanvasBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed again and again, the chord would never end."""

    def stumble(*_: Any, **__: Any) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr(Continuation, "after_header", stumble)
    body = await bench.start(chord([sig("add", 1, 1)], sig("echo")))
    async with bench.worker():
        assert await bench.error(body) == ("ChordError", ["The body can't be sent: TypeError"])


@pytest.mark.parametrize("odd", [{1, 2}, {"__type__": "no such type", "__value__": 1}], ids=["set", "marker"])
async def test_a_body_whose_arguments_cannot_be_kept_fails_with_its_chord(bench: CanvasBench, odd: object) -> None:
    """A client that pickles may send what JSON, in which the body waits, has no word for."""
    body = sig("echo", odd, task_id="body", link_error=[sig("told", immutable=True).to_dict()])
    heard = asyncio.Event()

    async def told() -> None:
        heard.set()

    bench.task(told)
    await bench.chords.open([ChordOpening(group_id="g", size=2, expires=60)])
    async with bench.worker(accept=("json", "pickle")):
        for index in range(2):
            wire = encode_task(TaskMessage(task="add", id=f"m{index}", args=[1, 1], group="g", group_index=index))
            pickled = pickle.dumps(([1, 1], {}, {"callbacks": None, "chord": body.to_dict()}))
            kind = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
            await bench.publish(replace(wire, body=pickled, **kind))
        kind, [text] = await bench.error("body")
        async with asyncio.timeout(10):
            await heard.wait()
        assert [(await bench.final(f"m{index}")).status for index in range(2)] == ["SUCCESS", "SUCCESS"]
    assert kind == "ChordError"
    assert "can't be kept" in text


class Unpaid(Exception):
    """An app's own."""


async def test_the_errbacks_of_a_group_that_is_a_body_get_the_apps_own_exception(bench: CanvasBench) -> None:
    told: asyncio.Queue[Exception] = asyncio.Queue()

    async def on_error(request: TaskMessage, exc: Exception, traceback: str | None) -> None:
        await told.put(exc)

    async def pay() -> None:
        raise Unpaid(7)

    bench.task(on_error)
    bench.task(pay, throws=(Unpaid,))
    body = group(sig("echo", link_error=[sig("on_error").to_dict()]))
    await bench.start(chord([sig("pay")], body))
    async with bench.worker(exceptions=[Unpaid]), asyncio.timeout(10):
        exc = await told.get()
    assert type(exc) is Unpaid
    assert exc.args == (7,)


async def test_a_revoked_member_fails_the_chord(bench: CanvasBench) -> None:
    late = sig("add", 1, 1, expires=(datetime.now(UTC) - timedelta(seconds=5)).isoformat())
    body = await bench.start(chord([late, sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        kind, [text] = await bench.error(body)
    assert kind == "ChordError"
    assert text.endswith("raised TaskRevokedError('expired')")


async def test_a_member_that_ignores_its_result_hands_it_in_all_the_same(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("add", 1, 1, ignore_result=True), sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        assert await bench.value(body) == [[2, 4]]


async def test_a_member_that_asks_to_be_ignored_leaves_the_chord_open(bench: CanvasBench) -> None:
    body = await bench.start(chord([sig("ignore"), sig("add", 2, 2)], sig("echo")))
    await bench.worker(burst=True).run()
    assert await bench.record(body) is None


async def test_a_value_that_cannot_travel_is_a_failure_and_sends_nothing(bench: CanvasBench) -> None:
    async def odd() -> object:
        return object()

    bench.task(odd, ignore_result=True)
    last = await bench.start(chain(sig("odd"), sig("echo")))
    await bench.worker(burst=True, store_errors_even_if_ignored=True).run()
    record = await bench.record(last)
    assert record is not None
    assert record.result["exc_type"] == "EncodeError"


async def test_a_link_that_is_no_signature_fails_its_task(bench: CanvasBench) -> None:
    failed = await bench.start(sig("add", 1, 2, link=[{"args": [1]}]))
    async with bench.worker():
        kind, _ = await bench.error(failed)
    assert kind == "SignatureError"


async def test_options_that_nobody_knows_are_told_of_once_and_left_out(
    bench: CanvasBench, caplog: pytest.LogCaptureFixture
) -> None:
    odd = sig("add", 3, wormhole="open", priority="high")
    last = await bench.start(chain(sig("add", 1, 2), odd, odd))
    caplog.set_level(logging.WARNING, logger="asyncq.worker")
    async with bench.worker():
        assert await bench.value(last) == 9
    told = [record.getMessage() for record in caplog.records if "can't honour" in record.getMessage()]
    assert len(told) == 2
    assert "'wormhole'" in told[0]
