"""The planner on trees of any shape, without a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.canvas import (
    ChainNode,
    ChordNode,
    GroupNode,
    Node,
    Opening,
    Planner,
    Sending,
    TaskNode,
    has_chord,
    read_node,
    result_id,
)

tasks = st.integers(0, 99).map(lambda number: TaskNode(task="t", args=[number]))


def _compound(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda found: ChainNode(tasks=found)),
        several.map(lambda found: GroupNode(tasks=found)),
        st.tuples(several, parts).map(lambda found: ChordNode(header=GroupNode(tasks=found[0]), body=found[1])),
    )


trees: st.SearchStrategy[Node] = st.recursive(tasks, _compound, max_leaves=12)


def planner(prefix: str = "id", **options: Any) -> Planner:
    numbers = count()
    return Planner(new_id=lambda: f"{prefix}{next(numbers)}", **options)


class Fleet:
    """Runs plans as workers would: each task succeeds, in the order in which messages came."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._parts: dict[str, dict[str, int]] = {}
        self._bodies: dict[str, dict[str, Any]] = {}
        self._numbers = count()

    def run(self, node: Node, *, saves_headers: bool = False) -> None:
        new = planner(saves_headers=saves_headers)
        waiting = self._sent(list(new.plan(node)))
        while waiting:
            sending = waiting.pop(0)
            self.ran[sending.task_id] += 1
            waiting += self._ended(sending)

    def _sent(self, steps: list[Sending | Opening]) -> list[Sending]:
        for step in steps:
            if isinstance(step, Opening):
                assert step.group_id not in self._sizes
                self._sizes[step.group_id] = step.size
        return [step for step in steps if isinstance(step, Sending)]

    def _ended(self, sending: Sending) -> list[Sending]:
        links = sending.links
        new = planner(f"{sending.task_id}.", parent_id=sending.task_id, root_id=links.root_id)
        followed: list[Sending] = []
        if links.chain:
            *rest, step = links.chain
            followed += self._sent(list(new.plan(read_node(step), ["x"], chain=rest)))
        if links.chord is not None:
            assert links.group_id is not None
            parts = self._parts.setdefault(links.group_id, {})
            assert links.group_index is not None
            assert links.group_index not in parts.values()
            parts[sending.task_id] = links.group_index
            self._bodies[links.group_id] = links.chord
            if len(parts) == self._sizes.get(links.group_id):
                assert sorted(parts.values()) == list(range(len(parts)))
                followed += self._sent(list(new.plan(read_node(links.chord), [["x"]])))
        return followed

    @property
    def complete(self) -> bool:
        return all(len(self._parts.get(group_id, ())) == size for group_id, size in self._sizes.items())


@settings(max_examples=300, deadline=None)
@given(trees, st.booleans())
def test_every_task_of_any_tree_runs_once_and_every_chord_comes_together(tree: Node, saves_headers: bool) -> None:
    fleet = Fleet()
    fleet.run(tree, saves_headers=saves_headers)
    assert set(fleet.ran.values()) == {1}
    assert len(fleet.ran) == _count(tree)
    assert fleet.complete


@settings(max_examples=200, deadline=None)
@given(trees)
def test_a_frozen_tree_stays_as_it_is_and_survives_its_dict(tree: Node) -> None:
    new = planner()
    frozen = new.freeze(tree)
    assert new.freeze(frozen).to_dict() == frozen.to_dict()
    read = read_node(frozen.to_dict())
    assert read.to_dict() == frozen.to_dict()
    assert result_id(read) == result_id(frozen)
    assert has_chord(read) == has_chord(tree)


def _count(tree: Node) -> int:
    match tree:
        case TaskNode():
            return 1
        case ChainNode() | GroupNode():
            return sum(map(_count, tree.tasks))
        case ChordNode():
            return _count(tree.header) + (0 if tree.body is None else _count(tree.body))


def test_a_group_at_the_end_of_a_headers_chain_keeps_its_places() -> None:
    ends_in_group = ChainNode(tasks=[TaskNode(task="t"), GroupNode(tasks=[TaskNode(task="t"), TaskNode(task="t")])])
    header = GroupNode(tasks=[TaskNode(task="t"), ends_in_group])
    steps = list(planner().plan(ChordNode(header=header, body=TaskNode(task="b"))))
    (begun,) = [step for step in steps if isinstance(step, Sending) and step.links.chain]
    assert begun.links.chain is not None
    followed = planner("w").plan(read_node(begun.links.chain[0]), ["x"])
    assert [step.links.group_index for step in followed if isinstance(step, Sending)] == [1, 2]


def test_the_order_of_a_header_is_that_of_its_members() -> None:
    inner = GroupNode(tasks=[TaskNode(task="t", args=[number]) for number in (1, 2)])
    header = GroupNode(tasks=[TaskNode(task="t", args=[0]), inner, TaskNode(task="t", args=[3])])
    steps = list(planner().plan(ChordNode(header=header, body=TaskNode(task="b"))))
    sent = [(step.args[0], step.links.group_index) for step in steps if isinstance(step, Sending)]
    assert sent == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [type(step) for step in steps[-2:]] == [Opening, Sending]


@pytest.mark.parametrize("made", [list, iter])
def test_the_backend_is_told_of_groups_among_the_results(made: Callable[[list[Node]], Iterable[Node]]) -> None:
    """Of members that are made while they are sent as well: else the body would get their values side by side."""
    ends_in_group = ChainNode(tasks=[TaskNode(task="t"), GroupNode(tasks=[TaskNode(task="t"), TaskNode(task="t")])])
    header = GroupNode(tasks=made([ends_in_group, TaskNode(task="t")]))
    (opening,) = [
        step for step in planner().plan(ChordNode(header=header, body=TaskNode(task="b"))) if isinstance(step, Opening)
    ]
    assert opening.size == 3
    assert opening.members is not None
    first, second = opening.members
    assert [first.members is None, second.members is None] == [False, True]


def test_a_header_is_planned_while_it_is_made() -> None:
    made: list[int] = []

    def members() -> Any:
        for number in range(1000):
            made.append(number)
            yield TaskNode(task="t", args=[number])

    steps = planner().plan(ChordNode(header=GroupNode(tasks=members()), body=TaskNode(task="b")))
    for _ in range(5):
        next(steps)
    assert len(made) < 10
