"""Calls as data."""

from __future__ import annotations

from typing import Any

import pytest

from app.kit import messages
from asyncq import AsyncQ, Signature, SignatureError
from asyncq.protocol import dumps


def add_to(app: AsyncQ) -> Any:
    @app.task(name="shop.add", queue="slow")
    async def add(a: int, b: int = 0) -> int:
        return a + b

    return add


def test_the_dict_is_celerys(queue: AsyncQ) -> None:
    add = add_to(queue)
    assert add.s(1, b=2).to_dict() == {
        "task": "shop.add",
        "args": [1],
        "kwargs": {"b": 2},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    bound = add.options(countdown=5, priority=3).si(1).to_dict()
    assert bound["options"] == {"countdown": 5, "priority": 3}
    assert bound["immutable"] is True


def test_celery_reads_it(queue: AsyncQ) -> None:
    from celery import Celery, signature

    theirs = signature(add_to(queue).options(countdown=5).s(1, b=2).to_dict(), app=Celery(set_as_current=False))
    assert theirs is not None
    assert (theirs.task, theirs.args, theirs.kwargs, theirs.options) == ("shop.add", [1], {"b": 2}, {"countdown": 5})


async def test_there_and_back(queue: AsyncQ) -> None:
    add = add_to(queue)
    signature = queue.signature(add.options(priority=3).s(1, b=2).to_dict())
    async with queue:
        await signature.send()
        (message,) = await messages(queue, "slow")
    assert (message.task, message.args, message.kwargs) == ("shop.add", [1], {"b": 2})
    assert message.properties.priority == 3


async def test_a_signature_that_celery_captured(queue: AsyncQ) -> None:
    captured = {
        "task": "proj.add",
        "args": [1],
        "kwargs": {},
        "options": {
            "task_id": "t",
            "reply_to": "r",
            "add_to_parent": False,
            "root_id": None,
            "chord": None,
            "priority": 0,
            "queue": None,
        },
        "subtask_type": None,
        "immutable": True,
        "chord_size": None,
    }
    async with queue:
        result = await queue.signature(captured).send()
        (message,) = await messages(queue)
    assert result.task_id == message.id == "t"
    assert message.task == "proj.add"


def test_what_it_cannot_read_it_says(queue: AsyncQ) -> None:
    with pytest.raises(SignatureError, match=r"celery\.chain must have a list of tasks"):
        queue.signature({"task": "celery.chain", "subtask_type": "chain"})
    with pytest.raises(SignatureError, match="must name its task"):
        queue.signature({"args": []})


async def test_links_of_a_call_travel_with_it(queue: AsyncQ) -> None:
    after = {"task": "x", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    linked = queue.signature({"task": "shop.add", "options": {"link": [after], "chord": after}})
    async with queue:
        await linked.send()
        (message,) = await messages(queue)
    assert (message.callbacks, message.errbacks, message.chord) == ([after], None, after)


def test_it_can_be_an_argument(queue: AsyncQ) -> None:
    signature = add_to(queue).s(1)
    assert isinstance(signature, Signature)
    assert b'"shop.add"' in dumps([signature.to_dict()])


def test_a_repr_shows_no_argument(queue: AsyncQ) -> None:
    add = add_to(queue)
    assert repr(add.s("canary", b="canary")) == "<Signature shop.add of 2 arguments>"
    assert repr(add.options(priority=1)) == "<shop.add with priority>"
    assert repr(add) == "<Task shop.add>"
