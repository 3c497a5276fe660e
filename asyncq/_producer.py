"""Turns calls into messages: routes, dates, ids, headers. Nothing here awaits."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from asyncq._call import NO_OPTIONS, Call, CallOptions
from asyncq._context import current_context
from asyncq._definition import TaskOptions
from asyncq._queues import QueueTable
from asyncq._routing import Route, RoutedCall, Router, publish_target
from asyncq._settings import Settings
from asyncq._unique import HEADER as UNIQUE_HEADER
from asyncq._unique import Claim, claim_of_idempotency_key, claim_of_rule
from asyncq.canvas import Links
from asyncq.driver import Environment, Publication, Queue
from asyncq.errors import ConfigurationError, EncodeError
from asyncq.protocol import Limits, Properties, TaskMessage, WireMessage, encode_task

__all__ = ["Outgoing", "Producer"]

T = TypeVar("T")

_EMPTY_ROUTE = Route()


class Outgoing(Struct):
    """A message that is ready to be published."""

    publication: Publication
    task: str
    task_id: str
    #: No result will be stored.
    ignored: bool
    #: A part of a chain, group or chord.
    is_part: bool
    #: What must be put down before it may go out.
    claim: Claim | None = None


class _Plan(Struct, frozen=True):
    """What is the same for each call of a task, as long as the call says nothing of it."""

    #: Whose plan it is: a task that is declared anew has new options.
    task: TaskOptions | None
    queue: Queue
    exchange: str
    routing_key: str
    priority: int
    serializer: str
    compression: str | None
    expires: float | timedelta | datetime | None
    #: None: the task is not known here, the worker decides.
    ignore_result: bool | None


class Producer:
    """One app's way of making messages."""

    def __init__(self, settings: Settings, environment: Environment) -> None:
        """Raises ConfigurationError for queues and routes that can't be read."""
        #: What messages are made by.
        self.settings: Settings = settings
        self._environment = environment
        self.queues: QueueTable = QueueTable(settings)
        self._router = Router(settings.routes)
        self._timezone = settings.tzinfo
        self._limits = settings.limits
        self._plans: dict[str, _Plan] = {}
        #: Seconds that one publish may take.
        self.publish_timeout: float = settings.network_timeout
        #: Makes a task's id.
        self.new_id: Callable[[], str] = environment.new_id
        #: Names this process as the sender; only the `rpc://` backend reads it, but Celery sends it always.
        self.reply_to: str = environment.new_id()
        self._origin = f"gen{os.getpid()}@{socket.gethostname()}"

    def prepare(self, call: Call) -> Outgoing:
        """Make the message of a call. In a running task the message becomes that task's child.

        Raises EncodeError for arguments that can't travel, ConfigurationError for a queue that isn't there and for an
        idempotency key of a task that is unique.
        """
        options = call.options
        plan = self._plan(call)
        task_id = options.task_id or self.new_id()
        parent = current_context.get()
        properties = Properties(
            correlation_id=task_id,
            reply_to=self.reply_to,
            priority=plan.priority,
            message_group_id=options.message_group_id,
            message_deduplication_id=options.message_deduplication_id,
        )
        message = TaskMessage(
            task=call.name,
            id=task_id,
            args=list(call.args),
            kwargs=dict(call.kwargs),
            origin=self._origin,
            ignore_result=plan.ignore_result,
            properties=properties,
            serializer=plan.serializer,
            compression=plan.compression,
        )
        if parent is not None:
            message.root_id = parent.root_id or parent.task_id
            message.parent_id = parent.task_id
        if call.links is not None:
            _link(message, call.links)
        if options is not NO_OPTIONS or plan.expires is not None:
            self._set_dates(message, options, plan.expires)
            message.shadow = options.shadow
            message.time_limit = options.time_limit
            message.soft_time_limit = options.soft_time_limit
        claim = self._claim(call, message)
        told = None if claim is None else claim.header()
        headers = options.headers if told is None else {**(options.headers or {}), UNIQUE_HEADER: told}
        publication = Publication(
            message=_encode(message, headers, self._limits),
            queue=plan.queue.name,
            exchange=plan.exchange,
            routing_key=plan.routing_key,
            target=plan.queue,
        )
        return Outgoing(
            publication=publication,
            task=call.name,
            task_id=task_id,
            ignored=plan.ignore_result is True,
            is_part=_is_part(call),
            claim=claim,
        )

    def queue_of(self, call: Call) -> str:
        """The queue that a call goes to. Raises ConfigurationError for one that isn't there."""
        return self._plan(call).queue.name

    def _claim(self, call: Call, message: TaskMessage) -> Claim | None:
        rule = None if call.task is None else call.task.unique
        key = call.options.idempotency_key
        # What counts on this call waits for this one, and not for another of its kind.
        if key is not None:
            if _is_part(call):
                raise ConfigurationError(f"{call.name} takes no idempotency_key as a part of a chain, group or chord")
            if rule is not None:
                # Two claims cannot be put down in one step, and whose handle would a send get that loses both?
                raise ConfigurationError(
                    f"{call.name} is unique and takes no idempotency_key: unique=Unique(by=…, scope=86400) says by "
                    "which arguments two sends within a day are the same"
                )
            return claim_of_idempotency_key(call.name, key)
        if rule is None or _is_part(call):
            return None
        now = self._environment.clock.wall()
        delay = 0.0 if message.eta is None else max(0.0, message.eta.timestamp() - now)
        return claim_of_rule(rule, call.args, call.kwargs, delay=delay)

    def _plan(self, call: Call) -> _Plan:
        said = call.options
        if said is not NO_OPTIONS:
            said = replace(said, task_id=None)  # all that most parts of a canvas say, and no matter here
        if said != NO_OPTIONS or not self._router.by_name_alone or call.task is None:
            return self._make_plan(call)
        plan = self._plans.get(call.name)
        if plan is None or plan.task is not call.task:
            plan = self._plans[call.name] = self._make_plan(call)
        return plan

    def _make_plan(self, call: Call) -> _Plan:
        """Call over task over route over settings, as in Celery."""
        if call.task is not None and call.name.startswith("__main__"):
            raise ConfigurationError(
                f"task {call.name!r} is in no module that a worker could import: put it into a file, or give it a name="
            )
        said, task, settings = call.options, call.task, self.settings
        queue_name = said.queue or (task.queue if task else None)
        route = _EMPTY_ROUTE
        if queue_name is None:
            route = self._router.route(RoutedCall(call.routed_as or call.name, call.args, call.kwargs, said.given()))
            queue_name = route.queue
        queue = self.queues.default if queue_name is None else self.queues[queue_name]
        exchange, routing_key = publish_target(
            queue, said.exchange or route.exchange, said.routing_key or route.routing_key
        )
        ignore_result = said.ignore_result
        if ignore_result is None and task is not None:
            ignore_result = settings.ignore_result if task.ignore_result is None else task.ignore_result
        return _Plan(
            task=task,
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            priority=_first(said.priority, task and task.priority, route.priority, settings.default_priority, 0),
            serializer=_first(said.serializer, task and task.serializer, route.serializer, settings.serializer),
            compression=said.compression or (task and task.compression) or route.compression or settings.compression,
            expires=said.expires if said.expires is not None else (task and task.expires),
            ignore_result=ignore_result,
        )

    def _set_dates(
        self, message: TaskMessage, options: CallOptions, expires: float | timedelta | datetime | None
    ) -> None:
        now = self._environment.clock.wall()
        if options.countdown:  # Celery takes 0 for "none" as well
            message.eta = datetime.fromtimestamp(now + options.countdown, self._timezone)
        elif options.eta is not None:
            message.eta = _aware(options.eta)
        if expires is not None:
            if isinstance(expires, datetime):
                message.expires = _aware(expires)
            else:
                seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
                message.expires = datetime.fromtimestamp(now + seconds, self._timezone)
            left = message.expires.timestamp() - now
            message.properties.expiration = str(max(0, round(left * 1000)))


def _is_part(call: Call) -> bool:
    return call.links is not None and not call.links.stand_alone


def _link(message: TaskMessage, links: Links) -> None:
    """Give a message its place in a canvas. What the links leave open stays as it is."""
    message.root_id = links.root_id or message.root_id
    message.parent_id = links.parent_id or message.parent_id
    message.group, message.group_index = links.group_id, links.group_index
    message.properties.reply_to = links.reply_to or message.properties.reply_to
    message.callbacks = _listed(links.callbacks)
    message.errbacks = _listed(links.errbacks)
    message.chain = links.chain
    message.chord = links.chord
    message.replaced_task_nesting = links.replaced_task_nesting
    message.stamped_headers = _listed(links.stamped_headers)
    message.stamps = dict(links.stamps)


def _listed(found: Sequence[T] | None) -> list[T] | None:
    return None if found is None else list(found)


def _encode(message: TaskMessage, headers: Mapping[str, Any] | None, limits: Limits) -> WireMessage:
    # Any: the caller's own headers.
    try:
        return encode_task(message, headers=headers, limits=limits)
    except EncodeError:
        # Looking for models costs time in every container; that nothing else could encode them is known by now.
        from asyncq._validation import dump_result

        args: Sequence[Any] = dump_result(message.args)
        kwargs: dict[str, Any] = dump_result(message.kwargs)
        if args is message.args and kwargs is message.kwargs:
            raise
        message.args = list(args)
        message.kwargs = kwargs
        return encode_task(message, headers=headers, limits=limits)


def _first(*values: Any) -> Any:  # Any: one type at each call
    return next(value for value in values if value is not None)


def _aware(moment: datetime) -> datetime:
    """Celery's workers read a time without offset as UTC; said aloud, since others don't read it at all."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
