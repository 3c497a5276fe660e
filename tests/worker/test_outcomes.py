"""What a task may do, and what becomes of it: record, message, dead letter."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncq._context import Context
from asyncq.driver import Publication, Queue
from asyncq.errors import Ignore, Reject, Retry
from asyncq.protocol import WireMessage
from worker.bench import Bench, body, reaches


async def add(x: int, y: int) -> int:
    return x + y


async def test_a_value_is_stored_and_the_message_is_gone(bench: Bench) -> None:
    bench.task(add)
    async with bench.worker():
        record = await bench.final(await bench.send("add", 2, 3))
        await bench.until(lambda depth: depth.in_flight == 0)
    assert (record.status, record.result, record.children) == ("SUCCESS", 5, [])
    assert record.date_done is not None
    assert record.date_done.utcoffset() == timedelta(0)
    depth = await bench.depth()
    assert (depth.ready, depth.parked, depth.dead) == (0, 0, 0)


async def test_a_failure_shows_the_users_code_and_not_the_workers(bench: Bench) -> None:
    async def inner_of_the_user() -> None:
        raise ValueError("boom", 1)

    async def fails() -> None:
        await inner_of_the_user()

    bench.task(fails)
    async with bench.worker():
        record = await bench.final(await bench.send("fails"))
    assert record.status == "FAILURE"
    assert record.result == {"exc_type": "ValueError", "exc_message": ["boom", 1], "exc_module": "builtins"}
    assert record.traceback is not None
    assert "inner_of_the_user" in record.traceback
    assert "asyncq/worker" not in record.traceback


async def test_a_def_task_runs_in_a_thread_and_knows_its_context(bench: Bench) -> None:
    def where(ctx: Context) -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), ctx.task_id]

    bench.task(where)
    async with bench.worker():
        task_id = await bench.send("where")
        record = await bench.final(task_id)
    assert record.result == [False, task_id]


async def test_progress_is_seen_before_the_end(bench: Bench) -> None:
    seen = asyncio.Event()

    async def works(ctx: Context) -> str:
        await ctx.progress({"done": 1})
        await seen.wait()
        return "end"

    bench.task(works)
    async with bench.worker():
        task_id = await bench.send("works")
        async with asyncio.timeout(10):
            while (record := await bench.record(task_id)) is None or record.status != "PROGRESS":
                await asyncio.sleep(0.002)
        seen.set()
        final = await bench.final(task_id)
    assert record.result == {"done": 1}
    assert record.date_done is None
    assert final.result == "end"


async def test_started_names_the_process_and_the_node(bench: Bench) -> None:
    release = asyncio.Event()

    async def waits() -> None:
        await release.wait()

    bench.task(waits, track_started=True)
    async with bench.worker() as worker:
        task_id = await bench.send("waits")
        async with asyncio.timeout(10):
            while (record := await bench.record(task_id)) is None:
                await asyncio.sleep(0.002)
        release.set()
        assert (await bench.final(task_id)).status == "SUCCESS"
    assert record.status == "STARTED"
    assert record.result["hostname"] == worker.node


async def test_a_retry_keeps_its_id_and_counts(bench: Bench) -> None:
    attempts: list[int] = []

    async def flaky(ctx: Context) -> int:
        attempts.append(ctx.retries)
        if ctx.retries < 2:
            raise ctx.retry(countdown=0.01, exc=OSError("not yet"))
        return ctx.retries

    bench.task(flaky)
    async with bench.worker():
        record = await bench.final(await bench.send("flaky"))
    assert attempts == [0, 1, 2]
    assert (record.status, record.result) == ("SUCCESS", 2)


async def test_a_retry_is_stored_with_its_reason_and_parked(bench: Bench) -> None:
    async def later(ctx: Context) -> None:
        raise ctx.retry(countdown=3600, exc=OSError("not yet"))

    bench.task(later)
    async with bench.worker() as worker:
        task_id = await bench.send("later")
        await bench.until(lambda depth: depth.parked == 1 and depth.in_flight == 0)
        assert worker.stats.retried == 1
    record = await bench.record(task_id)
    assert record is not None
    assert record.status == "RETRY"
    assert record.result["exc_type"] == "OSError"
    assert record.traceback is not None
    assert "Retry in 3600s" in record.traceback


async def test_spent_retries_fail_with_the_last_exception(bench: Bench) -> None:
    attempts: list[int] = []

    async def never(ctx: Context) -> None:
        attempts.append(ctx.retries)
        raise OSError("still not")

    bench.task(never, max_retries=2, retry_on=(OSError,), retry_backoff=0.001)
    async with bench.worker():
        record = await bench.final(await bench.send("never"))
    assert attempts == [0, 1, 2]
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "OSError")


async def test_a_retry_without_a_reason_that_is_spent_says_so(bench: Bench) -> None:
    async def asks(ctx: Context) -> None:
        raise ctx.retry(max_retries=0)

    bench.task(asks)
    async with bench.worker():
        record = await bench.final(await bench.send("asks"))
    assert record.result["exc_type"] == "MaxRetriesExceededError"


async def test_dont_retry_on_wins(bench: Bench) -> None:
    async def missing() -> None:
        raise FileNotFoundError("gone")

    bench.task(missing, retry_on=(OSError,), dont_retry_on=(FileNotFoundError,))
    async with bench.worker() as worker:
        record = await bench.final(await bench.send("missing"))
        assert worker.stats.retried == 0
    assert record.status == "FAILURE"


async def test_a_retry_from_inside_a_task_group_is_understood(bench: Bench) -> None:
    async def child(ctx: Context) -> None:
        raise ctx.retry(countdown=0)

    async def grouped(ctx: Context) -> str:
        if ctx.retries == 0:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(ctx))
        return "second"

    bench.task(grouped)
    async with bench.worker():
        record = await bench.final(await bench.send("grouped"))
    assert record.result == "second"


async def test_arguments_that_do_not_fit_fail_at_once_and_name_the_field(bench: Bench) -> None:
    bench.task(add, retry_on=(Exception,))
    async with bench.worker() as worker:
        record = await bench.final(await bench.send("add", 1, "x"))
        assert worker.stats.retried == 0
    assert record.status == "FAILURE"
    assert record.result["exc_type"] == "InvalidArguments"
    assert "y" in record.result["exc_message"][0]


async def test_a_value_that_cannot_travel_is_a_failure(bench: Bench) -> None:
    async def odd() -> object:
        return object()

    bench.task(odd)
    async with bench.worker():
        record = await bench.final(await bench.send("odd"))
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "EncodeError")


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_no_exception_of_a_task_ends_the_worker(bench: Bench, exc: BaseException) -> None:
    async def raises() -> None:
        raise exc

    bench.task(raises)
    bench.task(add)
    async with bench.worker():
        record = await bench.final(await bench.send("raises"))
        after = await bench.final(await bench.send("add", 1, 1))
    assert (record.status, record.result["exc_type"]) == ("FAILURE", type(exc).__name__)
    assert after.result == 2


async def test_ignore_stores_nothing_and_acknowledges(bench: Bench) -> None:
    async def ignores() -> None:
        raise Ignore

    bench.task(ignores)
    async with bench.worker() as worker:
        task_id = await bench.send("ignores")
        await reaches(lambda: worker.stats.ignored == 1)
    assert await bench.record(task_id) is None
    depth = await bench.depth()
    assert (depth.ready, depth.in_flight) == (0, 0)


async def test_reject_goes_to_the_dead_letters_with_its_reason(bench: Bench) -> None:
    async def rejects(number: int) -> None:
        raise Reject("no good")

    bench.task(rejects)
    async with bench.worker():
        record = await bench.final(await bench.send("rejects", 7))
        await bench.until(lambda depth: depth.dead == 1)
    assert record.status == "FAILURE"
    [letter] = await bench.dead()
    assert "no good" in letter.headers["asyncq-dead"]["reason"]
    assert body(letter)[0] == [7]


async def test_reject_with_requeue_comes_again(bench: Bench) -> None:
    seen: list[bool] = []

    async def once(ctx: Context) -> str:
        seen.append(ctx.redelivered)
        if len(seen) == 1:
            raise Reject(requeue=True)
        return "done"

    bench.task(once)
    async with bench.worker():
        record = await bench.final(await bench.send("once"))
    assert record.result == "done"
    assert seen == [False, True]


async def test_an_early_acknowledged_reject_with_requeue_is_not_lost(bench: Bench) -> None:
    runs: list[int] = []

    async def once() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise Reject(requeue=True)
        return "done"

    bench.task(once, acks_late=False)
    async with bench.worker():
        record = await bench.final(await bench.send("once"))
    assert record.result == "done"


async def test_an_early_acknowledged_task_is_gone_from_the_broker_while_it_runs(bench: Bench) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def early() -> None:
        running.set()
        await release.wait()

    bench.task(early, acks_late=False)
    async with bench.worker():
        task_id = await bench.send("early")
        await running.wait()
        depth = await bench.depth()
        release.set()
        assert (await bench.final(task_id)).status == "SUCCESS"
    assert (depth.ready, depth.in_flight) == (0, 0)


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(bench: Bench) -> None:
    async with bench.worker() as worker:
        task_id = await bench.send("add", 2, 3, headers={"trace": "abc"})
        await bench.until(lambda depth: depth.parked == 1 and depth.in_flight == 0)
        assert worker.stats.dead == 0
    bench.task(add)
    async with bench.worker():
        record = await bench.final(task_id)
    assert record.result == 5


async def test_a_task_that_stays_unknown_becomes_a_dead_letter_and_nobody_waits_in_vain(bench: Bench) -> None:
    async with bench.worker(unknown_task_timeout=0):
        record = await bench.final(await bench.send("nowhere.to.be.found", 1))
        await bench.until(lambda depth: depth.dead == 1)
    assert (record.status, record.result["exc_type"]) == ("FAILURE", "NotRegistered")
    [letter] = await bench.dead()
    assert letter.headers["task"] == "nowhere.to.be.found"
    assert "unknown task" in letter.headers["asyncq-dead"]["reason"]


async def test_an_undecodable_message_becomes_a_dead_letter_as_it_came(bench: Bench) -> None:
    bench.task(add)
    async with bench.worker():
        await bench.publish(WireMessage(body=b"\xff not json", headers={"task": "add", "id": "bad"}))
        good = await bench.final(await bench.send("add", 1, 1))
        await bench.until(lambda depth: depth.dead == 1)
    assert good.result == 2
    [letter] = await bench.dead()
    assert letter.headers["asyncq-dead"]["reason"].startswith("undecodable")


async def test_an_expired_task_is_revoked_unrun(bench: Bench) -> None:
    ran: list[int] = []

    async def late() -> None:
        ran.append(1)

    bench.task(late)
    async with bench.worker():
        record = await bench.final(await bench.send("late", expires=datetime.now(UTC) - timedelta(seconds=1)))
    assert (record.status, record.result["exc_type"]) == ("REVOKED", "TaskRevokedError")
    assert not ran


async def test_an_eta_waits_at_the_broker_and_not_in_the_worker(bench: Bench) -> None:
    bench.task(add)
    async with bench.worker():
        await bench.send("add", 1, 1, eta=datetime.now(UTC) + timedelta(hours=1))
        depth = await bench.until(lambda depth: depth.parked == 1)
    assert depth.in_flight == 0


async def test_an_eta_runs_when_it_is_due_and_never_before(bench: Bench) -> None:
    async def when() -> float:
        return datetime.now(UTC).timestamp()

    bench.task(when)
    async with bench.worker():
        due = datetime.now(UTC) + timedelta(seconds=0.3)
        record = await bench.final(await bench.send("when", eta=due))
    assert due.timestamp() <= record.result


async def test_ignored_results_are_not_stored_and_their_errors_only_when_asked(bench: Bench) -> None:
    async def quiet() -> int:
        return 1

    async def loud() -> None:
        raise ValueError

    bench.task(quiet, ignore_result=True)
    bench.task(loud, ignore_result=True, store_errors_even_if_ignored=True)
    async with bench.worker() as worker:
        quiet_id = await bench.send("quiet")
        heard_id = await bench.send("quiet", ignore_result=False)
        assert (await bench.final(await bench.send("loud"))).status == "FAILURE"
        assert (await bench.final(heard_id)).result == 1
        await reaches(lambda: worker.stats.succeeded == 2)
    assert await bench.record(quiet_id) is None


async def test_extended_results_say_who_did_what(bench: Bench) -> None:
    bench.task(add)
    async with bench.worker(result_extended=True) as worker:
        record = await bench.final(await bench.send("add", 2, 3))
    assert record.extra["name"] == "add"
    assert record.extra["args"] == [2, 3]
    assert record.extra["worker"] == worker.node
    assert record.extra["queue"] == "celery"


async def test_several_queues_are_served(bench: Bench) -> None:
    bench.task(add)
    async with bench.worker(queues=[Queue(name="a"), Queue(name="b")]):
        one = await bench.send("add", 1, 1, queue="a")
        two = await bench.send("add", 2, 2, queue="b")
        assert [(await bench.final(one)).result, (await bench.final(two)).result] == [2, 4]


async def test_a_retry_that_the_broker_refuses_fails_the_task(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncq.errors import BrokerError, PublishError
    from asyncq_brokers.memory import MemoryBroker

    broker = MemoryBroker(bench.config)

    async def refuse(publications: list[Publication]) -> None:
        raise PublishError({position: BrokerError("too large") for position in range(len(publications))})

    monkeypatch.setattr(broker, "publish", refuse)

    async def again() -> None:
        raise Retry(countdown=0)

    bench.task(again)
    async with bench.worker(broker=broker):
        record = await bench.final(await bench.send("again"))
    assert (record.status, record.result["exc_message"]) == ("FAILURE", ["too large"])
