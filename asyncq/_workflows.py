"""What is made of several calls: chains, groups, chords (canvas.md, 1 to 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain as joined
from itertools import islice
from typing import Any, Generic, Literal, TypeVar, cast, overload

from asyncq._canvas_sending import CanvasSender
from asyncq._combining import chained, grouped, settled
from asyncq._signature import Group, Signature, Step
from asyncq.canvas import ChordNode, ChordPolicy, GroupNode

__all__ = ["ChordHeader", "chain", "chord", "group"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
S = TypeVar("S")

# `Any` below: steps and members of whatever types, where there are more of them than overloads.


@overload
def chain(first: Signature[A], /) -> Signature[A]: ...
@overload
def chain(first: Signature[A], second: Step[A, B] | Signature[B], /) -> Signature[B]: ...
@overload
def chain(
    first: Signature[A], second: Step[A, B] | Signature[B], third: Step[B, C] | Signature[C], /
) -> Signature[C]: ...
@overload
def chain(
    first: Signature[A],
    second: Step[A, B] | Signature[B],
    third: Step[B, C] | Signature[C],
    fourth: Step[C, D] | Signature[D],
    /,
) -> Signature[D]: ...
@overload
def chain(first: Step[A, Any], /, *steps: Step[Any, Any] | Signature[Any]) -> Step[A, Any]: ...
@overload
def chain(
    first: Signature[Any],
    second: Step[Any, Any] | Signature[Any],
    third: Step[Any, Any] | Signature[Any],
    fourth: Step[Any, Any] | Signature[Any],
    fifth: Step[Any, Any] | Signature[Any],
    /,
    *steps: Step[Any, Any] | Signature[Any],
) -> Signature[Any]: ...
@overload
def chain(steps: Iterable[Step[Any, Any] | Signature[Any]], /) -> Signature[Any]: ...
def chain(*steps: Any) -> Any:
    """One after the other, each with the result of the one before: `chain(fetch.s("https://…"), size.s())`.

    A group in it becomes a chord when something follows it. Raises ValueError for no step at all.
    """
    signatures = list(_each(_given(steps)))
    if not signatures:
        raise ValueError("a chain needs at least one step")
    return Signature[Any](chained(each.node for each in signatures), _sender(signatures))


@overload
def group(members: Iterable[Signature[R]], /) -> Group[R]: ...
@overload
def group(*members: Signature[R]) -> Group[R]: ...
@overload
def group(members: Iterable[Step[A, R]], /) -> Step[A, list[R]]: ...
@overload
def group(*members: Step[A, R]) -> Step[A, list[R]]: ...
def group(*members: Any) -> Any:
    """Side by side: `group(fetch.s(url) for url in urls)`. Its result is the list of theirs, in order.

    A generator is read while the group is sent, so that there may be any number of members; it is sent once.
    """
    given = _given(members)
    signatures = _each(given)
    first = list(islice(signatures, 1))
    nodes = (each.node for each in joined(first, signatures))
    return Group[Any](grouped(nodes, lazily=isinstance(given, Iterator)), _sender(first))


class ChordHeader(Generic[R]):
    """A chord without its body: `chord(header)(body)`, or `chord(header) | body`."""

    def __init__(self, header: Group[R], policy: ChordPolicy | None) -> None:
        self._header = header
        self._policy = policy

    def __call__(self, body: Step[list[R], S] | Signature[S]) -> Signature[S]:
        """The chord, which is not sent yet."""
        (signature,) = _each([body])
        header = cast("GroupNode", self._header.node)  # a group's is never another one
        node = ChordNode(header=header, body=settled(signature.node), policy=self._policy)
        return Signature(node, _sender([self._header, signature]))

    def __or__(self, body: Step[list[R], S] | Signature[S]) -> Signature[S]:
        return self(body)


# Whether the body takes the list is checked in `chord(header)(body)` and `group(…) | body`: mypy would call what is
# right here an error.
@overload
def chord(
    header: Iterable[Signature[Any]] | Group[Any],
    body: Step[Any, S] | Signature[S],
    *,
    on_error: Literal["fail", "collect"] = "fail",
    threshold: float | None = None,
) -> Signature[S]: ...
@overload
def chord(
    header: Iterable[Step[A, Any]],
    body: Step[Any, S] | Signature[S],
    *,
    on_error: Literal["fail", "collect"] = "fail",
    threshold: float | None = None,
) -> Step[A, S]: ...
@overload
def chord(
    header: Iterable[Signature[R]] | Group[R],
    *,
    on_error: Literal["fail", "collect"] = "fail",
    threshold: float | None = None,
) -> ChordHeader[R]: ...
def chord(
    header: Any, body: Any = None, *, on_error: Literal["fail", "collect"] = "fail", threshold: float | None = None
) -> Any:
    """A header side by side, and a body that gets the list of its results, in order, when all of it has ended.

    ::

        await chord([fetch.s(url) for url in urls], summarise.s()).send()

    When a member of the header fails, the body is not run, and the chord fails with a ChordError that names the member.
    With `on_error="collect"` the body gets `{"task_id": …, "exc_type": …, "exc_message": …}` in its place. With a
    `threshold` it does so when at least so many members have succeeded (a whole number) or such a share of them (a
    number below 1), and else fails. A chord that a Celery worker completes knows "fail" alone.

    Raises ValueError for a threshold that can't be meant.
    """
    members = cast("Group[Any]", header if isinstance(header, Group) else group(header))
    waiting = ChordHeader[Any](members, _policy(on_error, threshold))
    return waiting if body is None else waiting(body)


def _policy(on_error: str, threshold: float | None) -> ChordPolicy | None:
    if on_error not in {"fail", "collect"}:
        raise ValueError(f'on_error is "fail" or "collect", not {on_error!r}')
    if threshold is None:
        return None if on_error == "fail" else ChordPolicy(on_error=on_error)
    if on_error == "fail":
        raise ValueError('a threshold needs on_error="collect"')
    if not (0 < threshold < 1 or (threshold >= 1 and threshold == int(threshold))):
        raise ValueError(f"threshold is a number of members from 1 on, or a share below 1, not {threshold}")
    return ChordPolicy(on_error=on_error, threshold=threshold if threshold < 1 else int(threshold))


def _given(parts: tuple[Any, ...]) -> Iterable[Any]:
    """What was given, one by one or as one iterable."""
    return cast("Iterable[Any]", parts[0]) if len(parts) == 1 and isinstance(parts[0], Iterable) else parts


def _each(given: Iterable[Any]) -> Iterator[Signature[Any]]:
    """Raises TypeError for what is no signature."""
    for each in given:
        if not isinstance(each, Signature):
            raise TypeError(f"a signature is needed here (task.s(…)), not {type(each).__name__}")
        yield cast("Signature[Any]", each)


def _sender(signatures: Iterable[Signature[Any]]) -> CanvasSender | None:
    return next((each.sender for each in signatures if each.sender is not None), None)
