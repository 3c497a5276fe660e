"""What asyncq sends for a canvas is what Celery 5.7 was seen to send for the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import golden
from asyncq import AsyncQ, Signature, StampingVisitor, chain, chord, group
from asyncq._call import call_of
from asyncq._clock import system_environment
from asyncq._producer import Producer
from asyncq.canvas import Planner, Sending, Step, read_node
from asyncq.protocol import TaskMessage, WireMessage
from canvas.golden_messages import Renaming, captured, family, read, signatures_in

app = AsyncQ("proj", broker="memory://")
producer = Producer(app.settings, system_environment())


def _any(name: str) -> Any:
    """A task of the captures; unannotated, as they were, so that any call of it may be written here."""

    async def task(*args: Any, **kwargs: Any) -> Any: ...

    return app.task(name=f"proj.{name}")(task)


add, mul, tsum, echo, ident, errback_old = map(_any, ("add", "mul", "tsum", "echo", "ident", "errback_old"))


class Acme(StampingVisitor):
    def on_signature(self, signature: Signature[Any], /, **stamps: Any) -> dict[str, Any]:
        return {"tenant": "acme", "trace": ["a", "b"]}


# -- what is wanted otherwise ----------------------------------------------------------------------------------


def _numbered(messages: list[TaskMessage]) -> None:
    for index, message in enumerate(messages):
        message.group_index = index


def _in_order(messages: list[TaskMessage]) -> None:
    messages[1:] = reversed(messages[1:])
    _numbered(messages)


def _without_nulls(messages: list[TaskMessage]) -> None:
    for message in messages:
        assert message.chord is not None
        options = message.chord["options"]
        unsaid = [name for name in ("add_to_parent", "priority", "root_id") if not options.get(name)]
        message.chord["options"] = {name: each for name, each in options.items() if name not in unsaid}


def _listed_link(messages: list[TaskMessage]) -> None:
    for document in messages[0].chain or ():
        document["options"]["link"] = [document["options"]["link"]]


#: Where asyncq's messages differ from Celery's on purpose: the reason, and what makes the captured ones alike. Users
#: read of the first two in docs/celery.md; the others mean the same to every reader.
WANTED: Mapping[str, tuple[str, Callable[[list[TaskMessage]], None]]] = {
    "nested-group": (
        "Members of a group in a group are numbered on, where Celery begins anew: two members had one place.",
        _numbered,
    ),
    "nested-group-chord": (
        "They are numbered in order, where Celery counts a nested group backwards: results come in header order.",
        _in_order,
    ),
    "nested-chord": ("What was not said, or means something to Celery's client alone, is left out.", _without_nulls),
    "worker-chord-in-chain-1of4": ("What was not said is left out.", _without_nulls),
    "worker-chord-in-chain-2of4": ("What was not said is left out.", _without_nulls),
    "stamped-chain": ("Links are always a list; Celery keeps what `set(link=…)` was given.", _listed_link),
}


def expected(name: str) -> list[TaskMessage]:
    messages = family(name)
    if name in WANTED:
        _, make_alike = WANTED[name]
        make_alike(messages)
    return messages


# -- what a client sends ---------------------------------------------------------------------------------------


def messages_of(steps: Sequence[Step]) -> list[TaskMessage]:
    calls = [call_of(step, lambda _: None) for step in steps if isinstance(step, Sending)]
    published = [producer.prepare(call).publication.message for call in calls]
    return [read(each) for each in published if isinstance(each, WireMessage)]


def sent_by_a_client(signature: Signature[Any]) -> list[TaskMessage]:
    planner = Planner(new_id=producer.new_id, reply_to=producer.reply_to)
    return messages_of(list(planner.plan(signature.node)))


def same(ours: Sequence[TaskMessage], theirs: Sequence[TaskMessage], renaming: Renaming | None = None) -> None:
    assert len(ours) == len(theirs)
    renaming = renaming or Renaming()
    for our, their in zip(ours, theirs, strict=True):
        renaming.check(our, their)


CALLS: Mapping[str, Callable[[], Signature[Any]]] = {
    "chain-2-immutable": lambda: add.s(1, 2) | echo.si("ignored parent"),
    "chain-3": lambda: chain(add.s(1, 2), mul.s(3), echo.s("end")),
    "chain-in-chord-header": lambda: chord([chain(add.s(1, 1), mul.s(2)), add.s(3, 3)], tsum.s()),
    "chain-link": lambda: chain(add.s(1, 2), mul.s(3)).link(echo.s()),
    "chain-link-error": lambda: chain(add.s(1, 2), mul.s(3)).link_error(errback_old.s()),
    "chord": lambda: chord([add.s(1, 1), add.s(2, 2)], tsum.s()),
    "chord-chain-body": lambda: chord([add.s(1, 1), add.s(2, 2)])(chain(tsum.s(), mul.s(3))),
    "chord-error-callback": lambda: chord([add.s(1, 1), add.s(2, 2)])(tsum.s().on_error(errback_old.s())),
    "chord-group-body": lambda: group(add.s(1, 1), add.s(2, 2)) | group(tsum.s(), echo.s()),
    "chord-in-chain": lambda: chain(add.s(1, 1), group(add.s(10), add.s(20)), tsum.s(), mul.s(2)),
    "chunks": lambda: add.chunks([(0, 0), (1, 1), (2, 2), (3, 3)], 2),
    "group-3": lambda: group(add.s(i, i) for i in range(3)),
    "group-first-in-chain": lambda: chain(group(add.s(1, 1), add.s(2, 2)), tsum.s(), mul.s(2)),
    "immutable-signature": lambda: add.si(3, 4),
    "link": lambda: add.s(1, 2).link(mul.s(10)),
    "link-error": lambda: add.s(1, 2).link_error(errback_old.s()),
    "link-two": lambda: add.s(1, 2).link(mul.s(10)).link(echo.si("done")),
    "map": lambda: ident.map([1, 2, 3]),
    "nested-chord": lambda: chord([chord([add.s(1, 1), add.s(2, 2)], tsum.s()), add.s(3, 3)], tsum.s()),
    "nested-group": lambda: group(add.s(0, 0), group(add.s(1, 1), add.s(2, 2))),
    "nested-group-chord": lambda: chord([add.s(0, 0), group(add.s(1, 1), add.s(2, 2))], tsum.s()),
    "options-in-signature": lambda: chain(
        add.s(1, 2),
        mul.s(3).set(
            countdown=5,
            queue="other",
            priority=3,
            expires=60,
            time_limit=9,
            ignore_result=True,
            serializer="json",
            headers={"h": 1},
            shadow="s",
        ),
    ),
    "stamped": lambda: add.s(1, 2).stamp(tenant="acme", n=5),
    "stamped-apply-async": lambda: add.s(1, 2).stamp(tenant="acme"),
    "stamped-chain": lambda: chain(add.s(1, 2), mul.s(3).link(echo.s())).stamp(tenant="acme"),
    "stamped-chord": lambda: chord([add.s(1, 2), add.s(3, 4)], tsum.s()).stamp(Acme()),
    "stamped-group": lambda: group(add.s(1, 2), add.s(3, 4)).stamp(tenant="acme"),
    "stamped-visitor": lambda: add.s(1, 2).stamp(Acme()),
    "starmap": lambda: add.starmap([(1, 2), (3, 4)]),
    "task-then-group": lambda: add.s(1, 1) | group(add.s(10), add.s(20)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_client_sends_what_celerys_sends(name: str) -> None:
    same(sent_by_a_client(CALLS[name]()), expected(name))


def test_every_difference_is_one() -> None:
    for name, (_, make_alike) in WANTED.items():
        changed = family(name)
        make_alike(changed)
        assert changed != family(name), name


# -- what follows from a task's end ----------------------------------------------------------------------------


class Follow:
    """Goes on where a message's task has ended, as a worker does."""

    def __init__(self, name: str, call: str) -> None:
        """`name` is that of the captures to compare with, `call` that of the client's call that they follow from."""
        self.messages = sent_by_a_client(CALLS[call]())
        self.renaming = Renaming()
        self._name = name

    def planner(self, ended: TaskMessage) -> Planner:
        """Workers freeze with the reply address of the task that has ended; links have their own."""
        return Planner(
            new_id=producer.new_id,
            reply_to=ended.properties.reply_to,
            parent_id=ended.id,
            root_id=ended.root_id or ended.id,
        )

    def next_step(self, ended: TaskMessage, value: object) -> list[TaskMessage]:
        assert ended.chain
        *rest, step = ended.chain
        return messages_of(list(self.planner(ended).plan(read_node(step), [value], chain=rest)))

    def body(self, ended: TaskMessage, values: list[Any]) -> list[TaskMessage]:
        return messages_of(list(self.planner(ended).plan(read_node(ended.chord), [values])))

    def check(self, ours: Sequence[TaskMessage], *numbers: int, of: int) -> None:
        names = [f"{self._name}-{number}of{of}" if of else self._name for number in numbers]
        same(ours, [message for name in names for message in expected(name)], self.renaming)


def test_a_chain_goes_on() -> None:
    follow = Follow("worker-chain-next", "chain-3")
    (first,) = follow.messages
    second = follow.next_step(first, 3)
    third = follow.next_step(second[0], 9)
    follow.check([*second, *third], 1, 2, of=2)


def test_a_chain_goes_on_with_a_chord_and_behind_it() -> None:
    follow = Follow("worker-chord-in-chain", "chord-in-chain")
    (first,) = follow.messages
    header = follow.next_step(first, 2)
    body = follow.body(header[1], [12, 22])
    last = follow.next_step(body[0], 34)
    follow.check([*header, *body, *last], 1, 2, 3, 4, of=4)


def test_a_chain_ends_in_a_group() -> None:
    follow = Follow("worker-group-callback-in-chain", "task-then-group")
    (first,) = follow.messages
    follow.check(follow.next_step(first, 2), 1, 2, of=2)


def test_the_body_of_a_chord_names_what_completed_it() -> None:
    follow = Follow("worker-chord-body", "chord")
    theirs = captured("worker-chord-body")
    ours = follow.body(follow.messages[0 if theirs.args == [[2, 4]] else 1], [2, 4])
    follow.check(ours, 0, of=0)


def test_a_callback_gets_the_result() -> None:
    follow = Follow("worker-link-callback", "link")
    (ended,) = follow.messages
    assert ended.callbacks is not None
    (callback,) = ended.callbacks
    theirs = captured("worker-link-callback")
    ours = messages_of(list(follow.planner(ended).plan(read_node(callback), [3])))
    # A link has no reply address of its own: that of the worker that sends it.
    ours[0].properties.reply_to = theirs.properties.reply_to
    same(ours, [theirs])


# -- signature dicts -------------------------------------------------------------------------------------------

CARRIERS = [
    name
    for name in golden.names("amqp")
    if not name.startswith(("pickle", "auth", "compressed", "protocol1", "msgpack", "yaml"))
    and signatures_in(captured(name))
]


@pytest.mark.parametrize("name", CARRIERS)
def test_captured_signatures_are_read_and_written_back(name: str) -> None:
    for document in signatures_in(captured(name)):
        assert app.signature(document).to_dict() == document


def test_the_captures_hold_signatures() -> None:
    assert len(CARRIERS) > 40


@pytest.mark.parametrize("name", CALLS)
def test_what_is_read_back_is_sent_the_same(name: str) -> None:
    """Through JSON and back the messages stay what they were."""
    signature = app.signature(CALLS[name]().to_dict())
    same(sent_by_a_client(signature), expected(name))
