"""Sending workflows: in what order, in which batches, as whose children, and where it is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.kit import GatedBroker, messages
from asyncq import (
    AsyncQ,
    ConfigurationError,
    Context,
    GroupResult,
    Signature,
    SignatureError,
    Unique,
    chain,
    chord,
    group,
)
from asyncq._context import current_context
from asyncq.driver import DriverConfig, Publication
from asyncq.protocol import TaskMessage, decode_task
from asyncq_backends.memory import MemoryBackend
from asyncq_brokers.memory import MemoryBroker


def declared(queue: AsyncQ) -> tuple[Any, Any]:
    @queue.task(name="shop.add")
    async def add(a: int, b: int = 0) -> int: ...

    @queue.task(name="shop.total", queue="slow")
    async def total(numbers: list[int]) -> int: ...

    return add, total


async def test_a_chain_is_one_message(queue: AsyncQ) -> None:
    add, _ = declared(queue)
    async with queue:
        result = await (add.s(1, 2) | add.s(3) | add.s(4)).send()
        (message,) = await messages(queue)
    assert message.chain is not None
    assert [each["args"] for each in message.chain] == [[4], [3]]
    assert result.task_id == message.chain[0]["options"]["task_id"]
    assert result.parent is not None
    assert result.parent.parent is not None
    assert result.parent.parent.task_id == message.id


async def test_the_members_of_a_group_go_in_batches() -> None:
    batches: list[list[TaskMessage]] = []

    class Noting(GatedBroker):
        async def publish(self, publications: Sequence[Publication]) -> None:
            batches.append([decode_task(each.message) for each in publications])

    queue = AsyncQ("shop", broker=Noting, backend="memory://")
    add, _ = declared(queue)
    async with queue:
        result = await group(add.s(number) for number in range(2500)).send()
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    sent = [each for batch in batches for each in batch]
    assert [each.args for each in sent] == [[number] for number in range(2500)]
    assert [each.group_index for each in sent] == list(range(2500))
    assert [each.task_id for each in result.results] == [each.id for each in sent]
    assert {each.group for each in sent} == {result.task_id}


async def test_each_goes_to_its_own_queue(queue: AsyncQ) -> None:
    add, total = declared(queue)
    async with queue:
        await group(add.s(1), total.s([1]), total.map([[1]]), add.map([1])).send()
        here, there = await messages(queue), await messages(queue, "slow")
    assert [each.task for each in here] == ["shop.add", "celery.map"]
    assert [each.task for each in there] == ["shop.total", "celery.map"]


async def test_a_chord_is_opened_before_its_last_message(queue: AsyncQ) -> None:
    add, total = declared(queue)
    async with queue:
        result = await chord([add.s(1), add.s(2)], total.s()).send()
        first, second = await messages(queue)
    assert first.chord == second.chord
    assert first.chord is not None
    assert first.chord["options"]["task_id"] == result.task_id
    assert isinstance(result.parent, GroupResult)
    assert result.parent.task_id == first.group


@pytest.mark.parametrize("keeps_results", [False, True])
async def test_where_nothing_brings_parts_together_a_chord_is_refused(keeps_results: bool) -> None:
    queue = AsyncQ("shop", broker=MemoryBroker, backend=Keeping if keeps_results else None)
    add, total = declared(queue)
    workflows: list[Signature[Any]] = [
        chord([add.s(1)], total.s()),
        add.s(1) | group(add.s(2), add.s(3)) | total.s(),
        group(add.s(1), group(add.s(1)) | total.s()),
        chord((add.s(number) for number in range(2000)), total.s()),
    ]
    async with queue:
        for workflow in workflows:
            with pytest.raises(ConfigurationError, match=r"needs a result backend that .* backend=…"):
                await workflow.send()
        assert await messages(queue) == []
        await (add.s(1) | group(add.s(2), add.s(3))).send()


async def test_a_chord_is_refused_before_any_of_it_is_sent() -> None:
    """Where it is made as it is sent, what stands before it may have gone out."""
    sent: list[TaskMessage] = []

    class Noting(GatedBroker):
        async def publish(self, publications: Sequence[Publication]) -> None:
            sent.extend(decode_task(each.message) for each in publications)

    queue = AsyncQ("shop", broker=Noting, backend=Keeping)
    add, total = declared(queue)

    def members() -> Iterator[Signature[Any]]:
        for number in range(1500):
            yield add.s(number)
        yield chord([add.s(-1) for _ in range(1500)], total.s())

    async with queue:
        with pytest.raises(ConfigurationError, match="needs a result backend"):
            await group(members()).send()
    assert {each.chord is None for each in sent} == {True}


class Keeping:
    """A result backend that joins nothing."""

    def __init__(self, config: DriverConfig) -> None:
        self._inner = MemoryBackend(config)
        self.open, self.close = self._inner.open, self._inner.close
        self.store, self.get = self._inner.store, self._inner.get
        self.watch, self.forget = self._inner.watch, self._inner.forget
        self.capabilities, self.address = self._inner.capabilities, "keeping://"


async def test_what_has_no_step_is_refused(queue: AsyncQ) -> None:
    with pytest.raises(SignatureError, match="empty group"):
        await group([]).send()
    empty = {"task": "celery.chain", "kwargs": {"tasks": []}, "subtask_type": "chain"}
    async with queue:
        with pytest.raises(SignatureError, match="without steps"):
            await queue.signature(empty).send()


async def test_a_generator_is_sent_once(queue: AsyncQ) -> None:
    add, _ = declared(queue)
    workflow = group(add.s(number) for number in range(1500))
    async with queue:
        await workflow.send()
        with pytest.raises(SignatureError, match="used up"):
            await workflow.send()


@pytest.mark.parametrize("members", [2, 1500])
async def test_a_list_is_sent_as_often_as_one_likes(queue: AsyncQ, members: int) -> None:
    add, total = declared(queue)
    workflow = chord([add.s(number) for number in range(members)], total.s())
    async with queue:
        assert len(workflow.to_dict()["kwargs"]["header"]) == members
        headers = [(await workflow.send()).parent, (await workflow.clone().send()).parent]
    results = [each.task_id for header in headers if isinstance(header, GroupResult) for each in header.results]
    assert len(set(results)) == 2 * members


async def test_chunks_of_a_list_are_sent_as_often_as_one_likes(queue: AsyncQ) -> None:
    add, _ = declared(queue)
    chunks = add.chunks([(number, number) for number in range(1500)], 1)
    async with queue:
        sent = [await chunks.send(), await chunks.send()]
    assert len({each.task_id for group in sent for each in group.results}) == 3000


async def test_a_body_is_made_before_it_is_sent(queue: AsyncQ) -> None:
    """A header carries it more than once."""
    add, _ = declared(queue)
    workflow = chord([add.s(1), add.s(2)], group(add.s(number) for number in range(1500)))
    async with queue:
        assert isinstance(await workflow.send(), GroupResult)
        sent = await messages(queue)
    assert [len((each.chord or {})["kwargs"]["tasks"]) for each in sent] == [1500, 1500]


def test_sync_code_sends_workflows(queue: AsyncQ) -> None:
    add, total = declared(queue)
    result = chord([add.s(1), add.s(2)], total.s()).send_sync()
    assert isinstance(result.parent, GroupResult)
    assert len(group(add.s(1), add.s(2)).send_sync()) == 2


async def test_signatures_of_all_kinds_in_one_call(queue: AsyncQ) -> None:
    add, total = declared(queue)
    async with queue:
        results = await queue.send_many([add.s(1), add.s(1) | add.s(2), chord([add.s(1)], total.s())])
        assert len(await messages(queue)) == 3
    assert len({each.task_id for each in results}) == 3


async def test_uniqueness_holds_for_calls_and_not_for_parts(queue: AsyncQ) -> None:
    @queue.task(name="shop.once", unique=Unique(scope="queued"))
    async def once(a: int) -> int: ...

    async with queue:
        first, second = await once.s(1).send(), await once.s(1).send()
        assert second.task_id == first.task_id
        await group(once.s(1), once.s(1)).send()
        assert len(await messages(queue)) == 3
        with pytest.raises(ConfigurationError, match="no idempotency_key"):
            await group(once.s(1), once.s(1).set(idempotency_key="k")).send()


async def test_in_a_running_task_a_workflow_is_one_child(queue: AsyncQ) -> None:
    add, total = declared(queue)
    parent = Context(TaskMessage(task="shop.parent", id="p", root_id="r"), attempt=None)
    token = current_context.set(parent)
    try:
        async with queue:
            line = await chain(add.s(1), add.s(2)).send()
            await chord([add.s(1), add.s(2)], total.s()).send()
            sent = await messages(queue)
    finally:
        current_context.reset(token)
    assert {(each.parent_id, each.root_id) for each in sent} == {("p", "r")}
    assert sent[1].chord is not None
    assert sent[1].chord["options"]["root_id"] == "r"
    assert line.parent is not None
    assert parent.children == [
        [[line.parent.task_id, None], None],
        [[sent[1].group, None], [[[each.id, None], None] for each in sent[1:]]],
    ]


async def test_a_streamed_chord_takes_no_more_memory_than_a_batch() -> None:
    """Ten times the members, and about the same memory: what was sent is let go."""

    class Nowhere(GatedBroker):
        async def publish(self, publications: Sequence[Publication]) -> None: ...

    queue = AsyncQ("shop", broker=Nowhere, backend="memory://")
    add, total = declared(queue)

    async def peak(members: int) -> int:
        def numbers() -> Iterator[Signature[Any]]:
            for number in range(members):
                yield add.s(number)

        tracemalloc.start()
        try:
            await chord(numbers(), total.s()).send()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async with queue:
        await peak(1100)
        assert await peak(8_000) < 1.5 * await peak(2_000)


async def test_an_id_that_is_named_is_that_of_the_result(queue: AsyncQ) -> None:
    add, total = declared(queue)
    workflows: list[Signature[Any]] = [
        add.s(1) | add.s(2),
        group(add.s(1), add.s(2)),
        chord([add.s(1)], total.s()),
        add.s(1) | group(add.s(1), add.s(2)) | total.s(),
    ]
    async with queue:
        for number, workflow in enumerate(workflows):
            assert (await workflow.set(task_id=f"named{number}").send()).task_id == f"named{number}"


async def test_a_chords_countdown_is_its_headers(queue: AsyncQ) -> None:
    add, total = declared(queue)
    async with queue:
        await chord([add.s(1)], total.s()).set(countdown=60, priority=3).send()
        (message,) = await messages(queue)
    assert message.eta is not None
    assert message.chord is not None
    assert "countdown" not in message.chord["options"]
    assert message.properties.priority == message.chord["options"]["priority"] == 3
