"""Which queue a message goes to: Celery's `task_routes` (messages.md, section 10)."""

from __future__ import annotations

import fnmatch
import functools
import inspect
import logging
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec import Struct

from asyncq.driver import Queue
from asyncq.errors import ConfigurationError

__all__ = ["Route", "RoutedCall", "Router", "publish_target"]

# `Any` below: routes are what Celery's configuration allows, and routers are given a task's arguments.

_logger = logging.getLogger("asyncq")


class Route(Struct, frozen=True, kw_only=True):
    """What a router says of a message. None: it leaves that to others."""

    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    serializer: str | None = None
    compression: str | None = None


class RoutedCall(Struct, frozen=True):
    """What a router may look at."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


_Rule: TypeAlias = Callable[[RoutedCall], Route | None]

_NOWHERE = Route()


class Router:
    """Tries the rules in their order; the first answer counts."""

    def __init__(self, routes: Any) -> None:
        """Raises ConfigurationError for what is no route."""
        self._rules = [_rule(each) for each in _routers(routes)]
        #: The answer depends on the task's name alone, so that whoever asks may remember it.
        self.by_name_alone: bool = all(isinstance(rule, _Map) for rule in self._rules)

    def route(self, call: RoutedCall) -> Route:
        """What the rules say of this call. Raises whatever a function among them raises."""
        for rule in self._rules:
            route = rule(call)
            if route is not None:
                return route
        return _NOWHERE


def publish_target(queue: Queue, exchange: str | None, routing_key: str | None) -> tuple[str, str]:
    """Exchange and routing key to publish with, from the queue and what the call or its route says.

    With a direct exchange a message goes straight to its queue, unless both are given.
    """
    if exchange is not None and routing_key is not None:
        return exchange, routing_key
    if queue.exchange_type == "direct":
        return "", queue.name
    return exchange or queue.exchange or queue.name, routing_key or queue.routing_key or queue.name


def _routers(routes: Any) -> Iterable[Any]:
    if routes is None:
        return ()
    if not isinstance(routes, list | tuple):
        return (routes,)
    items = cast("Sequence[Any]", routes)
    # Pairs at the top are a map as well, though Celery wants them one level down.
    return (items,) if _are_pairs(items) else items


def _are_pairs(items: Sequence[Any]) -> bool:
    return all(isinstance(item, list | tuple) and len(cast("Sequence[Any]", item)) == 2 for item in items) and all(
        isinstance(item[0], str | re.Pattern) for item in items
    )


def _rule(router: Any) -> _Rule:
    if isinstance(router, Mapping):
        return _Map(cast("Mapping[Any, Any]", router).items())
    if isinstance(router, list | tuple):
        if not _are_pairs(cast("Sequence[Any]", router)):
            raise ConfigurationError("routes: a list in a list must hold pairs of a name and a route")
        return _Map(cast("Sequence[tuple[Any, Any]]", router))
    if isinstance(router, str):
        return _Named(router)
    return _function(router)


class _Map:
    """Routes by task name: exact ones first, then patterns in their order."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self._exact: dict[str, Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for key, answer in pairs:
            route = _read(answer)
            if isinstance(key, re.Pattern):
                self._patterns.append((cast("re.Pattern[str]", key), route))
            elif "*" in key:
                self._patterns.append((re.compile(fnmatch.translate(key)), route))
            else:
                self._exact[key] = route

    def __call__(self, call: RoutedCall) -> Route | None:
        route = self._exact.get(call.name)
        if route is not None:
            return route
        return next((route for pattern, route in self._patterns if pattern.match(call.name)), None)


class _Named:
    """A router that is given by its dotted path, and imported when it is first needed: it may import the app."""

    def __init__(self, path: str) -> None:
        self._path = path

    @functools.cached_property
    def _rule(self) -> _Rule:
        found: Any = pkgutil.resolve_name(self._path)
        return _function(found() if inspect.isclass(found) else found)

    def __call__(self, call: RoutedCall) -> Route | None:
        return self._rule(call)


def _function(router: Any) -> _Rule:
    method = getattr(router, "route_for_task", None)
    if callable(method):
        return lambda call: _answer(method(call.name, call.args, call.kwargs))
    if not callable(router):
        raise ConfigurationError(f"routes: a {type(router).__name__} is no router")
    return lambda call: _answer(router(call.name, call.args, call.kwargs, call.options, task=None))


def _answer(answer: Any) -> Route | None:
    return None if answer is None else _read(answer)


def _read(answer: Any) -> Route:
    if isinstance(answer, str):
        return Route(queue=answer)
    if not isinstance(answer, Mapping):
        if not isinstance(getattr(answer, "name", None), str):
            raise ConfigurationError(f"routes: a {type(answer).__name__} is no route: give a queue's name or a dict")
        return Route(queue=answer.name)
    options = {name: value for name, value in cast("Mapping[str, Any]", answer).items() if value is not None}
    for unknown in options.keys() - _ROUTE_OPTIONS:
        _warn_of_option(unknown)
        del options[unknown]
    for name in ("queue", "exchange"):
        if name in options and not isinstance(options[name], str):
            options[name] = options[name].name
    return Route(**options)


_ROUTE_OPTIONS = frozenset(Route.__struct_fields__)


@functools.cache
def _warn_of_option(name: str) -> None:
    _logger.warning("routes: the option %r is not honoured", name)
