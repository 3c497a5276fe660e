"""Who calls what is linked to a canvas: told where Celery's workers look for it, read where its clients leave it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from asyncq.canvas import (
    ChainNode,
    ChordNode,
    Document,
    GroupNode,
    Node,
    Opening,
    Planner,
    Sending,
    TaskNode,
    read_node,
    with_callbacks,
    with_errbacks,
)

CALLBACK = TaskNode(task="callback").to_dict()
ERRBACK = TaskNode(task="errback").to_dict()


def call(name: str) -> TaskNode:
    return TaskNode(task=name)


def plan(node: Node, *, chain: Sequence[Document] | None = None) -> list[Sending]:
    numbers = count()
    steps = Planner(new_id=lambda: f"id{next(numbers)}").plan(node, ["x"], chain=chain)
    return [step for step in steps if isinstance(step, Sending)]


def next_step(sending: Sending) -> Node:
    assert sending.links.chain
    return read_node(sending.links.chain[-1])


def body_of(sending: Sending) -> Node:
    assert sending.links.chord is not None
    return read_node(sending.links.chord)


def linked(sent: Sequence[Sending]) -> list[tuple[str, Any, Any]]:
    return [(each.task, each.links.callbacks, each.links.errbacks) for each in sent]


def test_a_chain_is_linked_by_its_last_step_and_failed_by_each() -> None:
    chain = with_errbacks(with_callbacks(ChainNode(tasks=[call("a"), call("b")]), [CALLBACK]), [ERRBACK])
    [first] = plan(chain)
    [second] = plan(next_step(first))
    assert linked([first, second]) == [("a", None, [ERRBACK]), ("b", [CALLBACK], [ERRBACK])]


def test_a_chain_that_ends_in_a_group_is_linked_by_each_member() -> None:
    [first] = plan(with_callbacks(ChainNode(tasks=[call("a"), GroupNode(tasks=[call("b"), call("c")])]), [CALLBACK]))
    assert linked(plan(next_step(first))) == [("b", [CALLBACK], None), ("c", [CALLBACK], None)]


def test_celerys_clients_leave_the_links_of_such_a_chain_with_the_group() -> None:
    group = GroupNode(tasks=[call("b"), call("c")], options={"link": [CALLBACK], "link_error": [ERRBACK]})
    assert linked(plan(group, chain=[])) == [("b", [CALLBACK], [ERRBACK]), ("c", [CALLBACK], [ERRBACK])]


@pytest.mark.parametrize("of", ["the chain", "the chord"])
def test_a_body_that_is_a_chain_keeps_its_errbacks(of: str) -> None:
    """Celery's workers call those that they find there when the header has failed."""
    chain = ChainNode(tasks=[call("b"), call("c")])
    header = GroupNode(tasks=[call("a")])
    if of == "the chain":
        [member] = plan(ChordNode(header=header, body=with_errbacks(chain, [ERRBACK])))
    else:
        [member] = plan(with_errbacks(ChordNode(header=header, body=chain), [ERRBACK]))
    body = body_of(member)
    assert body.options["link_error"] == [ERRBACK]
    [first] = plan(body)
    assert linked([first, *plan(next_step(first))]) == [("b", None, [ERRBACK]), ("c", None, [ERRBACK])]


def test_a_chords_errbacks_are_those_of_chords_in_its_header() -> None:
    inner = ChordNode(header=GroupNode(tasks=[call("a")]), body=call("b"))
    outer = ChordNode(header=GroupNode(tasks=[inner, call("c")]), body=call("d"))
    first, second = plan(with_errbacks(outer, [ERRBACK]))
    assert linked([first, second]) == [("a", None, None), ("c", None, None)]
    assert [body_of(each).options["link_error"] for each in (first, second)] == [[ERRBACK], [ERRBACK]]


def test_what_follows_a_group_in_a_chain_gets_the_list_of_its_results() -> None:
    """A body that is a group leaves Celery's clients with what follows it, as if it could have a chain."""
    followed = [call("later").to_dict(), {**call("next").to_dict(), "options": {"task_id": "n"}}]
    group = GroupNode(tasks=[call("a"), call("b")], options={"task_id": "g", "group_id": "outer"})
    numbers = count()
    opening, *sent = sorted(
        Planner(new_id=lambda: f"id{next(numbers)}").plan(group, ["x"], chain=followed),
        key=lambda step: isinstance(step, Sending),
    )
    assert isinstance(opening, Opening)
    assert (opening.group_id, opening.size) == ("g", 2)
    assert [(step.task, step.links.group_id) for step in sent if isinstance(step, Sending)] == [("a", "g"), ("b", "g")]
    body = body_of(next(step for step in sent if isinstance(step, Sending)))
    assert (body.task, body.options["task_id"]) == ("next", "n")
    assert [step["task"] for step in body.options["chain"]] == ["later"]
