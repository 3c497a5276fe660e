"""What stands on the queue after a send."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pydantic
import pytest

from app.kit import messages, wire_messages
from asyncq import AsyncQ, ConfigurationError, Context, EncodeError, InvalidArguments
from asyncq._context import current_context
from asyncq.protocol import TaskMessage

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def add_to(app: AsyncQ, /, **options: Any) -> Any:
    @app.task(name="shop.add", **options)
    async def add(a: int, b: int = 0) -> int:
        return a + b

    return add


async def sent(queue: AsyncQ, name: str = "celery") -> TaskMessage:
    (message,) = await messages(queue, name)
    return message


async def test_a_plain_send_is_a_message_like_celerys(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        result = await add.send(1, b=2)
        (wire,) = await wire_messages(queue)
    message = await sent(queue)
    assert UUID.fullmatch(result.task_id)
    assert (message.task, message.id, message.args, message.kwargs) == ("shop.add", result.task_id, [1], {"b": 2})
    assert message.root_id == message.id
    assert message.parent_id is None
    assert message.properties.correlation_id == message.id
    assert UUID.fullmatch(message.properties.reply_to or "")
    assert message.properties.priority == 0
    assert message.properties.delivery_mode == 2
    assert message.properties.expiration is None
    assert message.ignore_result is False
    assert re.fullmatch(r"gen\d+@.+", message.origin or "")
    assert message.argsrepr is not None
    assert "1" not in message.argsrepr
    assert wire.content_type == "application/json"
    assert set(wire.headers) >= {"lang", "task", "id", "eta", "expires", "retries", "timelimit", "root_id"}


@pytest.mark.parametrize("way", ["send", "delay", "apply_async", "options", "signature", "send_task", "immutable"])
async def test_all_ways_of_sending_say_the_same(queue: AsyncQ, way: str) -> None:
    add = add_to(queue)
    async with queue:
        await {
            "send": lambda: add.send(1, 2),
            "delay": lambda: add.delay(1, 2),
            "apply_async": lambda: add.apply_async((1, 2)),
            "options": lambda: add.options().send(1, 2),
            "signature": lambda: add.s(1, 2).send(),
            "immutable": lambda: add.si(1, 2).send(),
            "send_task": lambda: queue.send_task("shop.add", (1, 2)),
        }[way]()
        message = await sent(queue)
    assert (message.task, message.args, message.kwargs) == ("shop.add", [1, 2], {})
    assert message.ignore_result is False


async def test_options_of_a_call(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        result = await add.options(
            task_id="my-id",
            queue="slow",
            priority=7,
            headers={"tenant": "acme"},
            ignore_result=True,
            serializer="msgpack",
            compression="zlib",
            shadow="shown",
            soft_time_limit=5,
            time_limit=9,
        ).send(1)
        (wire,) = await wire_messages(queue, "slow")
        message = await sent_as(queue, "slow", "msgpack")
    assert result.task_id == message.id == "my-id"
    assert message.properties.priority == 7
    assert wire.headers["tenant"] == "acme"
    assert wire.headers["timelimit"] == [9, 5]
    assert wire.content_type == "application/x-msgpack"
    assert message.ignore_result is True
    assert message.compression == "zlib"
    assert message.shadow == "shown"


async def sent_as(queue: AsyncQ, name: str, serializer: str) -> TaskMessage:
    from asyncq.protocol import decode_task

    (wire,) = await wire_messages(queue, name)
    return decode_task(wire, accept=[serializer])


async def test_the_call_beats_the_task_and_the_task_the_settings() -> None:
    queue = AsyncQ(
        "shop", broker="memory://", routes={"shop.*": {"queue": "routed", "priority": 1}}, default_priority=2
    )
    add = add_to(queue, queue="own", priority=3, ignore_result=True)

    @queue.task(name="shop.plain")
    async def plain() -> None: ...

    async with queue:
        await add.send(1)
        await add.options(queue="said", priority=4, ignore_result=False).send(1)
        await plain.send()
        await queue.send_task("other.task")
        own, said = await sent(queue, "own"), await sent(queue, "said")
        routed, other = await sent(queue, "routed"), await sent(queue)
    assert (own.properties.priority, own.ignore_result) == (3, True)
    assert (said.properties.priority, said.ignore_result) == (4, False)
    assert routed.properties.priority == 1
    assert other.properties.priority == 2


async def test_a_task_that_is_declared_anew_is_sent_as_it_says_now(queue: AsyncQ) -> None:
    async with queue:
        for name in ("before", "after"):
            await add_to(queue, queue=name).send(1)
            assert (await sent(queue, name)).args == [1]


async def test_a_task_that_is_not_known_here_leaves_the_result_to_its_worker(queue: AsyncQ) -> None:
    async with queue:
        await queue.send_task("elsewhere.task", [1], {"b": 2}, queue="q")
        message = await sent(queue, "q")
    assert (message.args, message.kwargs, message.ignore_result) == ([1], {"b": 2}, None)


async def test_functions_among_the_routes_see_each_call() -> None:
    queue = AsyncQ("shop", broker="memory://", routes=lambda name, args, *_, **__: "big" if args[0] > 10 else "small")
    add = add_to(queue)
    async with queue:
        await add.send(1)
        await add.send(11)
        assert (await sent(queue, "small")).args == [1]
        assert (await sent(queue, "big")).args == [11]


# -- dates ---------------------------------------------------------------------------------------------------


def near(moment: datetime | None, seconds: float) -> bool:
    assert moment is not None
    return abs((moment - datetime.now(UTC)).total_seconds() - seconds) < 5


async def test_countdown_is_a_date_in_the_apps_time_zone() -> None:
    queue = AsyncQ("shop", broker="memory://", timezone="Asia/Kolkata")
    add = add_to(queue)
    async with queue:
        await add.options(countdown=30).send(1)
        (wire,) = await wire_messages(queue)
        message = await sent(queue)
    assert wire.headers["eta"].endswith("+05:30")
    assert near(message.eta, 30)
    assert message.expires is None


@pytest.mark.parametrize(
    ("eta", "text"),
    [
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05+00:00"),
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2030-01-02T03:04:05+02:00"),
        (datetime(2030, 1, 2, 3, 4, 5), "2030-01-02T03:04:05+00:00"),  # noqa: DTZ001 - what people write
    ],
)
async def test_an_eta_keeps_its_offset_and_has_one(queue: AsyncQ, eta: datetime, text: str) -> None:
    add = add_to(queue)
    async with queue:
        await add.options(eta=eta).send(1)
        (wire,) = await wire_messages(queue)
    assert wire.headers["eta"] == text


@pytest.mark.parametrize("expires", [60, 60.0, timedelta(minutes=1)])
async def test_expiry_is_a_date_and_a_time_to_live(queue: AsyncQ, expires: Any) -> None:
    add = add_to(queue)
    async with queue:
        await add.options(expires=expires).send(1)
        message = await sent(queue)
    assert near(message.expires, 60)
    assert 55_000 < int(message.properties.expiration or 0) <= 60_000


async def test_a_past_expiry_is_said_as_it_is(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        await add.options(expires=datetime(2020, 1, 1, tzinfo=UTC)).send(1)
        message = await sent(queue)
    assert message.expires == datetime(2020, 1, 1, tzinfo=UTC)
    assert message.properties.expiration == "0"


async def test_a_tasks_own_expiry_counts_from_each_send(queue: AsyncQ) -> None:
    add = add_to(queue, expires=60)
    async with queue:
        await add.send(1)
        await add.options(expires=600).send(2)
        first, second = await messages(queue)
    assert near(first.expires, 60)
    assert near(second.expires, 600)


async def test_no_countdown_is_no_date(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        await add.options(countdown=0).send(1)
        assert (await sent(queue)).eta is None


# -- what is refused -----------------------------------------------------------------------------------------


async def test_options_that_are_none(queue: AsyncQ) -> None:
    add = add_to(queue)
    with pytest.raises(TypeError, match="unknown options of a call: link"):
        add.options(link=[])
    with pytest.raises(TypeError, match="unknown options of a call: colour"):
        await queue.send_task("shop.add", colour=1)  # type: ignore[call-arg]  # the case under test
    with pytest.raises(ValueError, match="priority must be from 0 to 255"):
        add.options(priority=256)
    with pytest.raises(TypeError, match="eta must be a datetime, not int"):
        add.options(eta=5)


async def test_what_cannot_travel_is_the_senders_error(queue: AsyncQ) -> None:
    add = add_to(queue)
    with pytest.raises(EncodeError):
        await add.send(object())
    with pytest.raises(EncodeError):
        await add.options(headers={"id": "mine"}).send(1)
    with pytest.raises(EncodeError):
        await add.options(serializer="nonesuch").send(1)
    async with queue:
        assert await messages(queue) == []


async def test_a_message_over_the_limit_is_the_senders_error() -> None:
    queue = AsyncQ("shop", broker="memory://", max_message_bytes=1000)
    add = add_to(queue)
    with pytest.raises(EncodeError, match="1000 are allowed"):
        await add.send("x" * 2000)


async def test_an_undeclared_queue() -> None:
    queue = AsyncQ("shop", broker="memory://", queues=["a"], create_missing_queues=False)
    with pytest.raises(ConfigurationError, match="queue 'b' is not declared"):
        await add_to(queue).options(queue="b").send(1)


# -- models --------------------------------------------------------------------------------------------------


class Item(pydantic.BaseModel):
    name: str
    at: datetime


@dataclasses.dataclass
class Point:
    x: int


async def test_models_and_dataclasses_travel_as_plain_values(queue: AsyncQ) -> None:
    at = datetime(2030, 1, 2, tzinfo=UTC)

    @queue.task
    async def take(items: list[Item], point: Point, at: datetime) -> str:
        return f"{items[0].name} {point.x} {items[0].at == at}"

    async with queue, queue.worker():
        result = await take.send([Item(name="lamp", at=at)], point=Point(1), at=at)
        assert await result.get(timeout=10) == "lamp 1 True"


# -- batches -------------------------------------------------------------------------------------------------


async def test_many_at_once_keep_their_order(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        results = await queue.send_many([add.s(n) for n in range(50)])
        sent_messages = await messages(queue)
        assert await queue.send_many([]) == []
    assert [message.id for message in sent_messages] == [result.task_id for result in results]
    assert [message.args for message in sent_messages] == [[n] for n in range(50)]


async def test_a_batch_with_a_fault_sends_nothing(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue:
        with pytest.raises(EncodeError):
            await queue.send_many([add.s(1), add.s(object())])
        assert await messages(queue) == []


# -- sub-tasks -----------------------------------------------------------------------------------------------


async def test_what_a_task_sends_is_its_child(queue: AsyncQ) -> None:
    add = add_to(queue)
    parent = Context(TaskMessage(task="shop.parent", id="p", root_id="r"), attempt=None)
    token = current_context.set(parent)
    try:
        async with queue:
            first = await add.send(1)
            (second,) = await queue.send_many([add.s(2)])
            sent_messages = await messages(queue)
    finally:
        current_context.reset(token)
    assert [(message.root_id, message.parent_id) for message in sent_messages] == [("r", "p")] * 2
    assert parent.children == [[[first.task_id, None], None], [[second.task_id, None], None]]


async def test_a_childs_record_names_its_parent(queue: AsyncQ) -> None:
    add = add_to(queue)

    @queue.task
    async def parent(ctx: Context) -> str:
        return (await add.send(1, 2)).task_id

    async with queue, queue.worker():
        result = await parent.send()
        child = queue.result(await result.get(timeout=10))
        assert await child.get(timeout=10) == 3
    message_of_nobody = await messages(queue)
    assert message_of_nobody == []


async def test_arguments_that_do_not_fit_fail_in_the_worker(queue: AsyncQ) -> None:
    add = add_to(queue)
    async with queue, queue.worker():
        with pytest.raises(InvalidArguments, match=r"shop\.add: a: Input should be a valid integer"):
            await (await add.send("one")).get(timeout=10)
