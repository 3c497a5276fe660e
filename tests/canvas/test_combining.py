"""What becomes of signatures that are combined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncq import AsyncQ, Signature, SignatureError, chain, chord, group
from asyncq.canvas import ChainNode, ChordNode, GroupNode, Node, TaskNode


def shape(node: Node) -> Any:
    """A task's first argument, or what it is made of."""
    match node:
        case TaskNode():
            return node.args[0]
        case ChainNode():
            return ["chain", *map(shape, node.tasks)]
        case GroupNode():
            return ["group", *map(shape, node.tasks)]
        case ChordNode():
            return ["chord", *map(shape, node.header.tasks), "->", None if node.body is None else shape(node.body)]


@pytest.fixture
def s(queue: AsyncQ) -> Any:
    @queue.task(name="shop.step")
    async def step(*args: Any) -> Any: ...

    return step.s


def test_what_bars_make(s: Any) -> None:
    cases: list[tuple[Signature[Any], Any]] = [
        (s(1) | s(2), ["chain", 1, 2]),
        (s(1) | s(2) | s(3), ["chain", 1, 2, 3]),
        (s(1) | (s(2) | s(3)), ["chain", 1, 2, 3]),
        (s(1) | group(s(2), s(3)), ["chain", 1, ["group", 2, 3]]),
        (group(s(1), s(2)) | s(3), ["chord", 1, 2, "->", 3]),
        (group(s(1)) | s(3), ["chord", 1, "->", 3]),
        (group(s(1), s(2)) | group(s(3), s(4)), ["chord", 1, 2, "->", ["group", 3, 4]]),
        (s(1) | group(s(2), s(3)) | s(4), ["chain", 1, ["chord", 2, 3, "->", 4]]),
        (group(s(1), s(2)) | s(3) | s(4), ["chord", 1, 2, "->", ["chain", 3, 4]]),
        (s(1) | group(s(2)) | s(3) | s(4), ["chain", 1, ["chord", 2, "->", ["chain", 3, 4]]]),
        (group(s(1)) | group(s(2)) | s(3), ["chord", 1, "->", ["chord", 2, "->", 3]]),
        (chord([s(1)], s(2)) | s(3), ["chord", 1, "->", ["chain", 2, 3]]),
        (chord([s(1)]) | s(2), ["chord", 1, "->", 2]),
        (chain(group(s(1), s(2)), s(3), s(4)), ["chord", 1, 2, "->", ["chain", 3, 4]]),
        (chain([s(1), s(2)]), ["chain", 1, 2]),
        (chain(s(1)), 1),
    ]
    for signature, expected in cases:
        assert shape(signature.node) == expected


def test_what_a_chain_says_of_itself_stays_when_it_becomes_a_part(s: Any) -> None:
    inner = (s(1) | s(2)).set(queue="slow").link(s("ok")).link_error(s("oh"))
    (first, second, third) = chain(inner, s(3)).to_dict()["kwargs"]["tasks"]
    assert first["options"]["queue"] == "slow"
    assert [each["args"] for each in second["options"]["link"]] == [["ok"]]
    assert [each["args"] for each in first["options"]["link_error"]] == [["oh"]]
    assert third["options"] == {}


def test_a_change_does_not_reach_what_was_made_before(s: Any) -> None:
    first = s(1)
    workflow = first | s(2)
    copy = first.clone()
    first.set(queue="slow").link(s("x")).stamp(tenant="acme")
    assert workflow.to_dict()["kwargs"]["tasks"][0]["options"] == {}
    assert copy.options == {}
    assert (first.options["queue"], first.options["tenant"]) == ("slow", "acme")


def test_links_of_groups_and_chords_stand_where_celery_has_them(s: Any) -> None:
    members = group(s(1), s(2)).link(s("ok")).link_error(s("oh")).to_dict()["kwargs"]["tasks"]
    (linked,) = members[0]["options"]["link"]
    assert (linked["args"], linked["immutable"]) == (["ok"], True)
    assert "link" not in members[1]["options"]
    assert all(each["options"]["link_error"][0]["args"] == ["oh"] for each in members)
    body = chord([s(1)], s(2)).link(s("ok")).on_error(s("oh")).to_dict()["kwargs"]["body"]
    assert body["options"]["link"][0]["args"] == ["ok"]
    assert body["options"]["link_error"][0]["args"] == ["oh"]


def test_nobody_calls_what_is_linked_to_an_empty_group(s: Any) -> None:
    assert shape(group([]).link(s("ok")).link_error(s("oh")).node) == ["group"]


def test_what_is_no_signature_is_refused_at_once(s: Any) -> None:
    wrong: Any = 2
    with pytest.raises(TypeError, match="not int"):
        group([s(1), wrong])
    with pytest.raises(TypeError, match="not int"):
        chain(s(1), wrong)
    with pytest.raises(TypeError, match="unsupported operand"):
        print(s(1) | wrong)
    with pytest.raises(ValueError, match="at least one step"):
        chain([])


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"on_error": "ignore"}, "not 'ignore'"),
        ({"threshold": 3}, 'needs on_error="collect"'),
        ({"on_error": "collect", "threshold": 0}, "not 0"),
        ({"on_error": "collect", "threshold": 1.5}, r"not 1\.5"),
        ({"on_error": "collect", "threshold": -1}, "not -1"),
    ],
)
def test_a_policy_that_cannot_be_meant(s: Any, policy: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chord([s(1)], s(2), **policy)


def test_a_policy_travels_with_the_body(s: Any) -> None:
    body = chord([s(1)], s(2).set(headers={"own": 1}), on_error="collect", threshold=0.9).to_dict()["kwargs"]["body"]
    assert body["options"]["headers"] == {"own": 1, "asyncq-chord": {"on_error": "collect", "threshold": 0.9}}
    whole = chord([s(1)], s(2), on_error="collect", threshold=3.0).to_dict()["kwargs"]["body"]
    assert whole["options"]["headers"]["asyncq-chord"]["threshold"] == 3
    assert "headers" not in chord([s(1)], s(2)).to_dict()["kwargs"]["body"]["options"]


def test_a_generator_is_read_no_further_than_it_must_be(s: Any) -> None:
    read: list[int] = []

    def numbers() -> Iterator[Signature[Any]]:
        for number in range(10_000):
            read.append(number)
            yield s(number)

    large = group(numbers())
    assert len(read) < 2000
    assert len(large.to_dict()["kwargs"]["tasks"]) == 10_000
    with pytest.raises(SignatureError, match="used up"):
        large.to_dict()
    small = group(s(number) for number in range(10))
    assert small.to_dict() == small.to_dict()


def test_chunks_hold_what_they_are_told_to(queue: AsyncQ) -> None:
    @queue.task(name="shop.add")
    async def add(a: int, b: int) -> int: ...

    chunks = add.chunks(((number, number) for number in range(5)), 2).to_dict()["kwargs"]["tasks"]
    assert [each["kwargs"]["it"] for each in chunks] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]]]
    with pytest.raises(ValueError, match="not 0"):
        add.chunks([], 0)


def test_a_repr_shows_no_argument(s: Any) -> None:
    assert repr(s("canary") | s("canary")) == "<Signature celery.chain of 0 arguments>"
    assert repr(group(s("canary"))) == "<Group celery.group of 0 arguments>"
