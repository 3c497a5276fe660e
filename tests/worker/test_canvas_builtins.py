"""The tasks that every worker has, and what tasks ask of their context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

import golden
from asyncq import Context
from asyncq._chain_rest import keep_rest
from asyncq._coordination import coordination_of
from asyncq.canvas import CHAIN_REST, Node, TaskNode
from asyncq.driver import BackendCapabilities, Coordination, StoredResult
from asyncq.errors import BackendConnectionError, BrokerConnectionError, ConfigurationError
from asyncq.protocol import ResultRecord, TaskMessage, encode_result
from asyncq_backends._memory_chords import MemoryChords
from asyncq_backends.memory import MemoryBackend
from worker.canvas_bench import CanvasBench, Described, chain, chord, group, sig


@pytest.fixture
def bench() -> CanvasBench:
    bench = CanvasBench()

    async def add(x: int, y: int) -> int:
        return x + y

    def double(x: int) -> int:
        return 2 * x

    async def named(ctx: Context, x: int) -> str:
        return f"{ctx.task_name} {x}"

    async def echo(*args: Any) -> list[Any]:
        return list(args)

    async def fail(*_: Any) -> None:
        raise ValueError("boom", 1)

    for task in (add, double, named, echo):
        bench.task(task)
    bench.task(fail, throws=(ValueError,))
    return bench


def over(name: str, task: str, **kwargs: Any) -> TaskNode:
    return TaskNode(task=f"celery.{name}", kwargs={"task": sig(task).to_dict(), **kwargs}, immutable=True)


async def test_map_and_starmap_call_the_function_for_each_item(bench: CanvasBench) -> None:
    async with bench.worker():
        assert await bench.value(await bench.start(over("map", "double", it=[1, 2, 3]))) == [2, 4, 6]
        assert await bench.value(await bench.start(over("starmap", "add", it=[[1, 2], [3, 4]]))) == [3, 7]
        assert await bench.value(await bench.start(over("map", "named", it=[1]))) == ["celery.map 1"]
        kind, _ = await bench.error(await bench.start(over("map", "nobody", it=[1])))
    assert kind == "NotRegistered"


async def test_chunks_as_a_step_sends_the_chunks_and_hands_on_where_their_results_will_be(bench: CanvasBench) -> None:
    last = await bench.start(chain(over("chunks", "add", it=[[1, 2], [3, 4], [5, 6]], n=2), sig("echo")))
    async with bench.worker():
        [[[_, _], members]] = await bench.value(last)
        assert [await bench.value(member[0][0]) for member in members] == [[3, 7], [11]]


async def test_older_clients_send_groups_and_chords_as_messages(bench: CanvasBench) -> None:
    document = sig("add", 2).to_dict()
    group_message = TaskNode(
        task="celery.group", kwargs={"tasks": [document], "result": [], "group_id": "g", "partial_args": [1]}
    )
    chord_message = TaskNode(
        task="celery.chord",
        kwargs={"header": [sig("add", 1, 1).to_dict()], "body": sig("echo", task_id="body").to_dict()},
    )
    async with bench.worker():
        [_, [[[member, _], _]]] = await bench.value(await bench.start(group_message))
        assert await bench.value(member) == 3
        await bench.value(await bench.start(chord_message))
        assert await bench.value("body") == [[2]]
        kind, _ = await bench.error(await bench.start(TaskNode(task="celery.chain")))
    assert kind == "NotImplementedError"


class Apart:
    """A result backend that can't join chords."""

    capabilities = BackendCapabilities(shared=False, push=True)
    address = "apart://"

    def __init__(self, bench: CanvasBench) -> None:
        self._memory = MemoryBackend(bench.config)
        self.open, self.close = self._memory.open, self._memory.close
        self.get, self.watch, self.forget = self._memory.get, self._memory.watch, self._memory.forget

    async def store(self, results: Sequence[StoredResult]) -> list[bool]:
        return await self._memory.store(results)


async def test_chord_unlock_waits_for_the_header_and_sends_the_body(bench: CanvasBench) -> None:
    for name in ("add", "echo"):
        bench.tasks[f"proj.{name}"] = msgspec.structs.replace(bench.tasks[name], name=f"proj.{name}")
    bench.tasks["proj.sleep"] = bench.tasks["proj.tsum"] = bench.tasks["proj.echo"]
    messages = [
        golden.amqp_message(golden.load("amqp", f"chord-unlock-{name}"))
        for name in ("1-client-unlock", "2-client-header-1", "3-client-header-2")
    ]
    body = golden.load("amqp", "chord-unlock-6-worker-body")["headers"]["id"]
    async with bench.worker(backend=Apart(bench)):
        await bench.publish(messages[0])
        await bench.until(lambda depth: depth.parked == 1)
        for message in messages[1:]:
            await bench.publish(message)
        assert (await bench.final(body)).status == "SUCCESS"


@pytest.mark.parametrize("case", ["a record", "the body"])
async def test_chord_unlock_fails_the_body_when_something_cannot_be_read(bench: CanvasBench, case: str) -> None:
    body = sig("echo", task_id="body").to_dict()
    if case == "the body":
        body["args"] = 7
    raw = b"no record" if case == "a record" else encode_result(ResultRecord(task_id="m", status="SUCCESS", result=1))
    await bench.backend.store([StoredResult(task_id="m", record=raw, status="SUCCESS", expires=60)])
    unlock = TaskNode(task="celery.chord_unlock", args=["g", body], kwargs={"result": [[["m", None], None]]})
    async with bench.worker():
        await bench.start(unlock)
        kind, _ = await bench.error("body")
    assert kind == "ChordError"


async def test_a_chord_in_a_chain_is_refused_by_name_where_the_backend_cannot_join(bench: CanvasBench) -> None:
    last = await bench.start(chain(sig("add", 1, 1), group(sig("add", 1), sig("add", 2)), sig("echo")))
    async with bench.worker(backend=Apart(bench)):
        kind, [text] = await bench.error(last)
    assert kind == "ConfigurationError"
    assert "apart://" in text


async def test_the_rest_of_a_long_chain_is_loaded_when_it_is_reached(bench: CanvasBench) -> None:
    coordination = coordination_of(bench.backend, bench.broker)
    assert coordination is not None
    frozen = bench.planner().freeze(chain(sig("add", 1), sig("add", 2), sig("add", 3)))
    steps = frozen.to_dict()["kwargs"]["tasks"]
    await keep_rest(coordination, {"key": steps[::-1]}, ttl=60)
    rest = TaskNode(task=CHAIN_REST, kwargs={"key": "key", "last": steps[-1]})
    last = steps[-1]["options"]["task_id"]
    async with bench.worker():
        await bench.start(chain(sig("add", 10, 10), rest))
        assert await bench.value(last) == 26


async def test_the_last_step_of_a_long_chain_fails_with_one_before_its_rest(bench: CanvasBench) -> None:
    last = sig("add", 3, task_id="the last").to_dict()
    async with bench.worker():
        await bench.start(chain(sig("fail"), TaskNode(task=CHAIN_REST, kwargs={"key": "none", "last": last})))
        assert await bench.error("the last") == ("ValueError", ["boom", 1])


async def test_who_waits_for_a_long_chain_is_told_that_its_rest_is_gone(bench: CanvasBench) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(request: TaskMessage, exc: Exception, traceback: str) -> None:
        await told.put(type(exc).__name__)

    bench.task(on_error)
    errbacks = [sig("on_error").to_dict()]
    rest = TaskNode(task=CHAIN_REST, kwargs={"key": "none", "last": sig("add", 3, task_id="the last").to_dict()})
    rest.options["link_error"] = errbacks
    async with bench.worker(), asyncio.timeout(10):
        await bench.start(chain(sig("add", 1, 2), rest))
        kind, _ = await bench.error("the last")
        assert (kind, await told.get()) == ("SignatureError", "SignatureError")
        member = chain(sig("add", 1, 2), msgspec.structs.replace(rest, options={}))
        body = await bench.start(chord([member, sig("add", 1, 1)], sig("echo")))
        kind, _ = await bench.error(body)
    assert kind == "ChordError"


async def test_the_rest_of_a_long_chain_outlasts_a_broker_that_is_away(
    bench: CanvasBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(_coordination: Coordination, key: str) -> list[dict[str, Any]]:
        tries.append(key)
        if len(tries) == 1:
            raise BrokerConnectionError("gone for a moment")
        return [sig("add", 1, task_id="the last").to_dict()]

    tries: list[str] = []
    monkeypatch.setattr("asyncq.worker._builtins.load_rest", load)
    await bench.start(chain(sig("add", 1, 2), TaskNode(task=CHAIN_REST, kwargs={"key": "key"})))
    async with bench.worker():
        assert await bench.value("the last") == 4


async def test_what_takes_a_tasks_place_takes_all_that_follows_it(bench: CanvasBench) -> None:
    linked = asyncio.Event()

    async def swap(ctx: Context, x: int) -> None:
        raise ctx.replace(Described(chain(sig("add", x, 1), group(sig("add", 10), sig("add", 20)))))

    async def after(value: Any) -> None:
        assert value == [12, 22]
        linked.set()

    bench.task(swap)
    bench.task(after)
    swapped = sig("swap", 1, link=[sig("after").to_dict()])
    body = await bench.start(chord([swapped, sig("add", 1, 1)], sig("echo")))
    async with bench.worker(), asyncio.timeout(10):
        assert await bench.value(body) == [[[12, 22], 2]]
        await linked.wait()


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (group(sig("add", 1, 1), sig("add", 2, 2)), [2, 4]),
        (chord([sig("add", 1, 1), sig("add", 2, 2)], sig("echo")), [[2, 4]]),
    ],
)
async def test_a_body_may_be_replaced_by_a_group_or_a_chord(bench: CanvasBench, node: Node, value: list[Any]) -> None:
    async def swap(ctx: Context, found: list[int]) -> None:
        raise ctx.replace(Described(node))

    bench.task(swap)
    body = await bench.start(chord([sig("add", 1, 1)], sig("swap")))
    async with bench.worker():
        assert await bench.value(body) == value


async def test_bodies_of_two_chords_may_have_the_same_id(bench: CanvasBench) -> None:
    ran = asyncio.Queue[list[int]]()

    async def report(found: list[int]) -> None:
        await ran.put(found)

    bench.task(report)
    async with bench.worker(), asyncio.timeout(10):
        for number in (1, 2):
            await bench.start(chord([sig("add", number, 0)], sig("report", task_id="daily")))
            assert await ran.get() == [number]


@pytest.mark.parametrize("node", [chain(), sig("add", 1, chord=sig("echo").to_dict())])
async def test_what_cannot_take_a_tasks_place_fails_it(bench: CanvasBench, node: Node) -> None:
    async def swap(ctx: Context) -> None:
        raise ctx.replace(Described(node))

    bench.task(swap)
    async with bench.worker():
        kind, _ = await bench.error(await bench.start(sig("swap")))
    assert kind == "SignatureError"


async def test_a_chord_grows_once_however_often_its_member_runs(bench: CanvasBench) -> None:
    async def grows(ctx: Context) -> int:
        await ctx.add_to_chord(Described(sig("add", 1, 1)))
        if ctx.retries == 0:
            raise ctx.retry(countdown=0)
        return 100

    bench.task(grows)
    body = await bench.start(chord([sig("grows"), sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        [results] = await bench.value(body)
    assert sorted(results) == [2, 4, 100]


async def test_a_chord_grows_once_though_its_answer_is_lost(
    bench: CanvasBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def grows(ctx: Context) -> int:
        await ctx.add_to_chord(Described(sig("add", 1, 1)))
        return 100

    grow, said = MemoryChords.grow, list[str]()

    async def lossy(self: MemoryChords, group_id: str, by: int, *, name: str, expires: float | None = None) -> None:
        await grow(self, group_id, by, name=name, expires=expires)
        said.append(name)
        if len(said) == 1:
            raise BackendConnectionError("the answer got lost")

    monkeypatch.setattr(MemoryChords, "grow", lossy)
    bench.task(grows)
    body = await bench.start(chord([sig("grows"), sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        [results] = await bench.value(body)
    assert sorted(results) == [2, 4, 100]
    assert len(said) == 2


async def test_several_may_be_added_side_by_side(bench: CanvasBench) -> None:
    async def grows(ctx: Context) -> int:
        await asyncio.gather(*[ctx.add_to_chord(Described(sig("add", number, 1))) for number in (10, 20, 30)])
        return 100

    bench.task(grows)
    body = await bench.start(chord([sig("grows"), sig("add", 2, 2)], sig("echo")))
    async with bench.worker():
        [results] = await bench.value(body)
    assert sorted(results) == [4, 11, 21, 31, 100]


async def test_only_a_header_task_can_add_to_its_chord(bench: CanvasBench) -> None:
    async def grows(ctx: Context) -> None:
        await ctx.add_to_chord(Described(sig("add", 1, 1)))

    bench.task(grows, throws=(ConfigurationError,))
    async with bench.worker():
        kind, _ = await bench.error(await bench.start(sig("grows")))
    assert kind == "ConfigurationError"


async def test_children_of_what_is_sent_stand_in_the_record(bench: CanvasBench) -> None:
    frozen = bench.planner().freeze(chain(sig("add", 1, 1), group(sig("add", 10), sig("add", 20)), sig("echo")))
    first, chorded = frozen.to_dict()["kwargs"]["tasks"]
    last = await bench.start(frozen)
    async with bench.worker():
        await bench.value(last)
    record = await bench.record(first["options"]["task_id"])
    assert record is not None
    header = chorded["kwargs"]["header"]
    members = [[[task["options"]["task_id"], None], None] for task in header["kwargs"]["tasks"]]
    assert record.children == [[[header["options"]["task_id"], None], members]]
