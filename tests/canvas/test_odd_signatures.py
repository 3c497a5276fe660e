"""Signatures that nobody should have written: they are refused in one way, whatever is odd about them."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.canvas import ChainNode, ChordNode, GroupNode, Planner, TaskNode, has_chord, read_node, result_of, size_of
from asyncq.errors import SignatureError

TASK = TaskNode(task="t").to_dict()


def task(**options: Any) -> dict[str, Any]:
    return {**TASK, "options": options}


ODD: dict[str, Any] = {
    "no object": 5,
    "a kind that is a list": {**TASK, "subtask_type": ["chain"]},
    "a name that is an object": {**TASK, "task": {}},
    "a name that is a list, of a chain": {**ChainNode(tasks=[]).to_dict(), "task": []},
    "a link that is a number": task(link=5),
    "links that are numbers": task(link=[5]),
    "an error link that is a text": task(link_error="t"),
    "a chain that is a number": task(chain=5),
    "a chain of numbers": task(chain=[5]),
    "a body that is a list": task(chord=[]),
    "stamps' names that are a number": task(stamped_headers=5),
    "stamps' names that are lists": task(stamped_headers=[[]]),
    "an id that is a number": task(task_id=5),
    "a group's id that is a list": task(group_id=[]),
    "a place that is a text": task(group_index="1"),
    "a place that is true": task(group_index=True),
    "a root that is a list": task(root_id=[]),
    "an address that is a number": task(reply_to=5),
    "a nesting that is a text": task(replaced_task_nesting="1"),
    "headers that are a list": task(headers=[]),
    "an error link that is a number, of a group": {
        **GroupNode(tasks=[]).to_dict(), "options": {"link_error": 5}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_refused(name: str) -> None:
    for document in (
        ODD[name],
        {**ChainNode(tasks=[]).to_dict(), "kwargs": {"tasks": [TASK, ODD[name]]}},
        {**ChordNode(header=GroupNode(tasks=[]), body=None).to_dict(), "kwargs": {"header": [TASK], "body": ODD[name]}},
    ):
        with pytest.raises(SignatureError):
            read_node(document)


def test_what_clients_of_celerys_write_is_none_of_it() -> None:
    document = task(
        link=TASK, link_error=[TASK], chain=None, chord=None, stamped_headers=None, task_id=None, group_index=None,
        root_id=None, parent_id=None, reply_to=None, replaced_task_nesting=0, headers=None, add_to_parent=False,
    )  # fmt: skip
    assert read_node(document).to_dict() == document


@pytest.mark.parametrize("body", [False, True])
def test_a_chain_without_steps_has_no_result(body: bool) -> None:
    empty = ChainNode(tasks=[])
    node = ChordNode(header=GroupNode(tasks=[TaskNode(task="t")]), body=empty) if body else empty
    with pytest.raises(SignatureError, match="without steps"):
        result_of(Planner(new_id=lambda: "id").freeze(node))


_OPTIONS = (
    *("task_id", "group_id", "group_index", "root_id", "parent_id", "reply_to", "chord", "chain", "link", "link_error"),
    *("stamped_headers", "headers", "replaced_task_nesting", "priority", "countdown"),
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "chain", "group", "chord", "celery.chain"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["task", "tasks", "options", "header", "body"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def _documents(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3)
    kwargs = st.fixed_dictionaries({}, optional={"tasks": several | _values, "header": several | inner, "body": inner})
    return st.fixed_dictionaries(
        {"task": st.sampled_from(["t", "celery.chain", "celery.group", "celery.chord"]) | _values},
        optional={
            "subtask_type": st.sampled_from([None, "chain", "group", "chord"]) | _values,
            "args": st.lists(_values, max_size=2) | _values,
            "kwargs": kwargs | _values,
            "options": st.dictionaries(st.sampled_from(_OPTIONS), inner | _values, max_size=3) | _values,
            "immutable": _values,
        },
    )


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.just(TASK) | _values, _documents, max_leaves=8))
def test_nothing_else_comes_of_any_document(document: Any) -> None:
    numbers = count()
    planner = Planner(new_id=lambda: f"id{next(numbers)}")
    try:
        node = read_node(document)
        frozen = planner.freeze(node)
        assert size_of(frozen) >= 0
        has_chord(frozen)
        list(planner.plan(frozen, ["x"]))
        result_of(frozen)
    except SignatureError:
        pass
