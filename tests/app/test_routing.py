"""Where a message goes: `task_routes` and `task_queues` as Celery has them."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError, Queue
from asyncq._routing import Route, RoutedCall, Router, publish_target


def route(routes: Any, name: str, *args: Any, **kwargs: Any) -> Route:
    return Router(routes).route(RoutedCall(name, args, kwargs, {}))


@pytest.mark.parametrize(
    ("routes", "name", "queue"),
    [
        (None, "shop.add", None),
        ({"shop.add": "exact", "shop.*": "glob"}, "shop.add", "exact"),
        ({"shop.*": "glob", "shop.add": "exact"}, "shop.add", "exact"),
        ({"shop.*": "first", "*.add": "second"}, "shop.add", "first"),
        ({"shop.*": {"queue": "glob"}}, "shop.sub.add", "glob"),
        ({"shop.a?d": "literal"}, "shop.add", None),
        ({"shop.a?d*": "glob"}, "shop.add", "glob"),
        ({re.compile("op"): "anchored"}, "shop.add", None),
        ({re.compile(r"shop\.(add|sub)"): "regex"}, "shop.add", "regex"),
        ([("shop.*", "pairs"), ("*", "rest")], "shop.add", "pairs"),
        (([("other.*", "no")], {"shop.*": "second"}), "shop.add", "second"),
        ([{"other.*": "no"}, lambda name, *_, **__: {"queue": f"q-{name}"}], "shop.add", "q-shop.add"),
        (lambda *_, **__: None, "shop.add", None),
    ],
)
def test_the_first_rule_that_answers_counts(routes: Any, name: str, queue: str | None) -> None:
    assert route(routes, name).queue == queue


def test_a_function_is_given_what_celery_gives_it() -> None:
    seen: list[Any] = []

    def router(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> str:
        seen.append((name, args, kwargs, options, task, more))
        return "big" if args[0] > 10 else "small"

    assert route(router, "shop.add", 11, b=1).queue == "big"
    assert route(router, "shop.add", 1).queue == "small"
    assert seen[0] == ("shop.add", (11,), {"b": 1}, {}, None, {})


class ShopRouter:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> dict[str, Any]:
        return {"queue": "from-class", "priority": 3}


def by_name(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> str:
    return "from-name"


def test_routers_by_object_and_by_dotted_path() -> None:
    assert route(ShopRouter(), "shop.add") == Route(queue="from-class", priority=3)
    assert route(f"{__name__}:by_name", "shop.add").queue == "from-name"
    assert route(f"{__name__}.ShopRouter", "shop.add").queue == "from-class"
    assert Router("nowhere.to.be:found") is not None  # imported when needed, not before


@pytest.mark.parametrize("routes", [5, [5], {"shop.*": 5}, [["a", "b", "c"]]])
def test_what_is_no_route_is_refused(routes: Any) -> None:
    with pytest.raises(ConfigurationError, match="routes: "):
        Router(routes)


def test_an_option_that_is_not_honoured_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert route({"shop.*": {"queue": "a", "delivery_mode_x": 1}}, "shop.add").queue == "a"
    assert "'delivery_mode_x' is not honoured" in caplog.text


@pytest.mark.parametrize(
    ("queue", "exchange", "key", "expected"),
    [
        (Queue(name="q"), None, None, ("", "q")),
        (Queue(name="q", exchange="x", routing_key="k"), None, None, ("", "q")),
        (Queue(name="q"), "x", None, ("", "q")),
        (Queue(name="q"), None, "k", ("", "q")),
        (Queue(name="q"), "x", "k", ("x", "k")),
        (Queue(name="q", exchange="t", exchange_type="topic", routing_key="a.#"), None, None, ("t", "a.#")),
        (Queue(name="q", exchange="t", exchange_type="topic", routing_key="a.#"), None, "a.b", ("t", "a.b")),
        (Queue(name="q", exchange_type="fanout"), None, None, ("q", "q")),
    ],
)
def test_a_direct_exchange_is_passed_by(queue: Queue, exchange: str, key: str, expected: tuple[str, str]) -> None:
    assert publish_target(queue, exchange, key) == expected


# -- queues --------------------------------------------------------------------------------------------------


def test_the_default_queue_and_queues_that_tasks_name() -> None:
    queue = AsyncQ("shop")
    assert queue.queues() == [Queue(name="celery")]

    @queue.task(queue="slow")
    async def fetch() -> None: ...

    assert queue.queues() == [Queue(name="celery"), Queue(name="slow")]
    assert queue.queues(["a", "a", "slow"]) == [Queue(name="a"), Queue(name="slow")]


def test_declared_queues_are_served_and_no_others() -> None:
    queue = AsyncQ("shop", queues=["a", {"name": "b", "durable": False}, Queue(name="c", exchange="x")])

    @queue.task(queue="slow")
    async def fetch() -> None: ...

    assert [each.name for each in queue.queues()] == ["a", "b", "c"]
    # As in Celery, a queue without an exchange belongs to the default one.
    assert queue.queues(["b"]) == [Queue(name="b", exchange="celery", routing_key="celery", durable=False)]
    assert queue.queues(["c"]) == [Queue(name="c", exchange="x")]


def test_celerys_mapping_and_kombus_objects() -> None:
    from kombu.entity import Exchange
    from kombu.entity import Queue as KombuQueue

    mapping = {"mail": {"exchange": "media", "exchange_type": "topic", "binding_key": "mail.#", "max_priority": 10}}
    kombus = [
        KombuQueue("mail", Exchange("media", type="topic"), routing_key="mail.#", max_priority=10),
    ]
    expected = Queue(
        name="mail",
        exchange="media",
        exchange_type="topic",
        routing_key="mail.#",
        arguments={"x-max-priority": 10},
    )
    assert AsyncQ("shop", task_queues=mapping).queues() == [expected]
    assert AsyncQ("shop", task_queues=kombus).queues() == [expected]


def test_an_undeclared_queue_where_none_may_be_made_up() -> None:
    queue = AsyncQ("shop", queues=["a"], create_missing_queues=False)
    assert queue.queues(["a", "celery"])
    with pytest.raises(ConfigurationError, match=r"queue 'b' is not declared \(queues=a\)"):
        queue.queues(["b"])


@pytest.mark.parametrize("queues", [5, [5], {"a": {"colour": 1}}, {"a": 5}, [{"exchange": "x"}]])
def test_what_is_no_queue_is_refused(queues: Any) -> None:
    with pytest.raises(ConfigurationError, match="queues: "):
        AsyncQ("shop", queues=queues)
