"""Stamps stand where Celery puts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import celery
import pytest
from celery.canvas import StampingVisitor as TheirVisitor

from asyncq import AsyncQ, Signature, StampingVisitor, chain, chord, group


def ours() -> Any:
    queue = AsyncQ("shop", broker="memory://")

    @queue.task(name="shop.step")
    async def step(*args: Any) -> Any: ...

    return step


def theirs() -> Any:
    app = celery.Celery(set_as_current=False)

    @app.task(name="shop.step")
    def step(*args: Any) -> Any: ...

    return step


class Both:
    """What both kinds of visitor say."""

    def on_signature(self, _signature: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"task": "any", "hidden": 1, "stamped_headers": ["task"]}

    def on_chain_start(self, _chain: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"of_chain": 1}

    def on_group_start(self, _group: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"of_group": 1}

    def on_chord_body(self, _chord: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"of_body": 1}

    def on_callback(self, _callback: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"of_callback": 1}

    def on_errback(self, _errback: Any, /, **_stamps: Any) -> dict[str, Any]:
        return {"of_errback": 1}


class OurBoth(Both, StampingVisitor):
    pass


#: Made so that nobody compares the kinds of parameters with theirs.
TheirBoth: Any = type("TheirBoth", (Both, TheirVisitor), {})


def shapes(step: Any, chain: Any, group: Any, chord: Any) -> Mapping[str, Callable[[], Any]]:
    def linked() -> Any:
        signature = step.s(1)
        signature.link(step.s("ok"))
        signature.link_error(step.s("oh"))
        return signature

    return {
        "task": lambda: step.s(1),
        "linked": linked,
        "chain": lambda: chain(step.s(1), linked(), step.s(3)),
        "group": lambda: group([step.s(1), linked()]),
        "chord": lambda: chord([step.s(1), linked()], step.s(3)),
        "nested": lambda: group([chain(step.s(1), step.s(2)), chord([step.s(3)], step.s(4))]),
    }


OURS = shapes(ours(), chain, group, chord)
THEIRS = shapes(theirs(), celery.chain, celery.group, celery.chord)


def stamps_in(document: Any) -> Any:
    """A signature without all but its stamps."""
    if isinstance(document, list):
        return [stamps_in(each) for each in document]
    options, kwargs = document["options"], document["kwargs"]
    names = options.get("stamped_headers") or []
    # Celery lists names whose values it has left behind, of a chain in a group with a visitor.
    found: dict[str, Any] = {name: options[name] for name in names if name in options}
    for name in ("link", "link_error"):
        found[name] = stamps_in(options.get(name) or [])
    header = kwargs.get("header", kwargs)
    members = header if isinstance(header, list) else header.get("tasks") or header.get("kwargs", {}).get("tasks", [])
    found["members"] = stamps_in(members)
    if kwargs.get("body"):
        found["body"] = stamps_in(kwargs["body"])
    return found


def _plain(signature: Any) -> Any:
    return json.loads(json.dumps(signature.to_dict() if isinstance(signature, Signature) else signature))


#: Celery appends a visitor's stamp several times to what stands several levels deep: nobody can want that.
CASES = [
    (name, append, visited)
    for name in OURS
    for append in (False, True)
    for visited in (False, True)
    if not (name == "nested" and append and visited)
]


@pytest.mark.parametrize(("name", "append", "visited"), CASES)
def test_as_celery_stamps(name: str, append: bool, visited: bool) -> None:
    our, their = OURS[name](), THEIRS[name]()
    for stamps in ({"tenant": "acme"}, {"tenant": "other", "n": 5}):
        our.stamp(OurBoth() if visited else None, append_stamps=append, **stamps)
        their.stamp(TheirBoth() if visited else None, append_stamps=append, **stamps)
    assert stamps_in(_plain(our)) == stamps_in(_plain(their))


async def test_stamps_are_headers_of_the_messages() -> None:
    from app.kit import messages

    step = ours()
    async with step.app as queue:
        await (step.s(1) | step.s(2)).stamp(tenant="acme").send()
        (message,) = await messages(queue)
    assert (message.stamped_headers, message.stamps) == (["tenant"], {"tenant": "acme"})
