"""The queues that an app knows, read from what Celery's `task_queues` allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from asyncq.driver import Queue
from asyncq.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncq._settings import Settings

__all__ = ["QueueTable"]

# `Any` below: a queue's options are the user's, and a queue may be an object of kombu's, which asyncq doesn't import.

#: kombu's own words for some queue arguments -> the argument, and what the value is multiplied by.
_ARGUMENT_WORDS = {
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}
_OPTIONS = frozenset(
    {"exchange", "exchange_type", "routing_key", "binding_key", "queue_arguments", "durable", "auto_delete"}
) | set(_ARGUMENT_WORDS)


class QueueTable:
    """Queues by name. One that is not declared is made up when it is asked for, where the settings allow it."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError for what can't be read as a queue."""
        self._settings = settings
        #: What `queues` declares, by name, in its order.
        self.declared: dict[str, Queue] = {queue.name: queue for queue in self._read(settings.queues)}
        self._made: dict[str, Queue] = {}

    def __getitem__(self, name: str) -> Queue:
        """Raises ConfigurationError for a queue that is not declared, where none may be made up."""
        queue = self.declared.get(name) or self._made.get(name)
        if queue is None:
            queue = self._made[name] = self._make(name)
        return queue

    @property
    def default(self) -> Queue:
        """Where messages go that nobody routes."""
        return self[self._settings.default_queue]

    def _make(self, name: str) -> Queue:
        settings = self._settings
        if name == settings.default_queue:
            return Queue(
                name=name,
                exchange=settings.default_exchange,
                exchange_type=settings.default_exchange_type,
                routing_key=settings.default_routing_key,
                arguments=self._arguments({}, settings.default_queue_type),
            )
        if settings.create_missing_queues:
            return Queue(
                name=name,
                exchange_type=settings.create_missing_queue_exchange_type or "direct",
                arguments=self._arguments({}, settings.create_missing_queue_type),
            )
        known = ", ".join(self.declared) or "none"
        raise ConfigurationError(f"queue {name!r} is not declared (queues={known}), and create_missing_queues is off")

    def _read(self, queues: Any) -> Iterable[Queue]:
        if queues is None:
            return
        if isinstance(queues, Mapping):
            for name, options in cast("Mapping[Any, Any]", queues).items():
                if options is not None and not isinstance(options, Mapping):
                    raise ConfigurationError(f"queues: the options of {name!r} must be a mapping")
                yield self._from_options(str(name), cast("Mapping[str, Any]", options or {}))
        elif isinstance(queues, Iterable) and not isinstance(queues, str):
            for each in cast("Iterable[Any]", queues):
                yield self._from_item(each)
        else:
            raise ConfigurationError(f"queues: must be a list or a mapping, not {type(queues).__name__}")

    def _from_item(self, item: Any) -> Queue:
        if isinstance(item, Queue):
            return item
        if isinstance(item, str):
            return Queue(name=item)
        if isinstance(item, Mapping):
            options = dict(cast("Mapping[str, Any]", item))
            if "name" in options:
                return self._from_options(str(options.pop("name")), options)
        elif isinstance(getattr(item, "name", None), str) and hasattr(item, "queue_arguments"):
            return self._from_kombu(item)
        raise ConfigurationError(f"queues: can't read a {type(cast('object', item)).__name__} as a queue")

    def _from_kombu(self, queue: Any) -> Queue:
        exchange = queue.exchange
        options = {word: getattr(queue, word, None) for word in (*_ARGUMENT_WORDS, "routing_key", "queue_arguments")}
        return self._from_options(
            queue.name,
            {
                **{word: value for word, value in options.items() if value},
                "exchange": getattr(exchange, "name", None),
                "exchange_type": getattr(exchange, "type", None),
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
            },
        )

    def _from_options(self, name: str, options: Mapping[str, Any]) -> Queue:
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise ConfigurationError(f"queues: {name!r} has unknown options: {', '.join(sorted(unknown))}")
        settings = self._settings
        arguments = dict(cast("Mapping[str, Any]", options.get("queue_arguments") or {}))
        for word, (argument, factor) in _ARGUMENT_WORDS.items():
            if options.get(word) is not None:
                arguments[argument] = int(options[word] * factor)
        # Celery gives a queue without an exchange the default one, not one of the queue's own name.
        return Queue(
            name=name,
            exchange=options.get("exchange") or settings.default_exchange or settings.default_queue,
            exchange_type=options.get("exchange_type") or settings.default_exchange_type,
            routing_key=options.get("routing_key")
            or options.get("binding_key")
            or settings.default_routing_key
            or settings.default_queue,
            durable=options.get("durable", True),
            auto_delete=options.get("auto_delete", False),
            arguments=self._arguments(arguments),
        )

    def _arguments(self, given: Mapping[str, Any], queue_type: str = "classic") -> dict[str, Any]:
        """A queue's arguments with what the settings add. Celery says nothing of the type where it is classic."""
        arguments = dict(given)
        if queue_type != "classic":
            arguments["x-queue-type"] = queue_type
        if self._settings.queue_max_priority is not None:
            arguments.setdefault("x-max-priority", self._settings.queue_max_priority)
        return arguments
