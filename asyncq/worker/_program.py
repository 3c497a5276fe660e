"""The tasks of a worker, made ready to run: options resolved and validators built once, at start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from asyncq._argument_keys import KeyOf, key_maker
from asyncq._definition import TaskDefinition
from asyncq._rates import parse_rate
from asyncq._validation import Validator, build_validator
from asyncq.protocol import TaskMessage
from asyncq.worker._setup import WorkerSetup


class Limit(Struct, frozen=True, kw_only=True, eq=False):
    """A task's rate limit."""

    #: Tokens a second.
    rate: float
    #: The rate is that of all workers together.
    fleet: bool
    #: Tells calls with different keys apart.
    key_of: KeyOf | None
    bucket: str

    def bucket_of(self, message: TaskMessage) -> str:
        """The bucket that a call takes its token from. Raises EncodeError when its key can't be made."""
        return self.bucket if self.key_of is None else f"rate.{self.key_of(message.args, message.kwargs)}"


class Program(Struct, frozen=True, kw_only=True, eq=False):
    """One task as this worker runs it: what the task leaves open is filled in from the app's settings."""

    definition: TaskDefinition
    #: None: there is nothing to check.
    validate: Validator | None
    acks_late: bool
    acks_failures: bool
    soft_time_limit: float | None
    time_limit: float | None
    ignore_result: bool
    store_errors: bool
    track_started: bool
    limit: Limit | None
    max_running: int | None


def compile_tasks(setup: WorkerSetup) -> Mapping[str, Program]:
    """Make every task of the app ready to run."""
    return {name: compile_task(definition, setup) for name, definition in setup.tasks.items()}


def compile_task(definition: TaskDefinition, setup: WorkerSetup) -> Program:
    """Make one task ready to run."""
    options = definition.options
    return Program(
        definition=definition,
        validate=build_validator(definition),
        acks_late=_first(options.acks_late, setup.acks_late),
        acks_failures=_first(options.acks_on_failure_or_timeout, setup.acks_on_failure_or_timeout),
        soft_time_limit=setup.soft_time_limit if options.soft_time_limit is None else options.soft_time_limit,
        time_limit=setup.time_limit if options.time_limit is None else options.time_limit,
        ignore_result=_first(options.ignore_result, setup.ignore_result),
        store_errors=_first(options.store_errors_even_if_ignored, setup.store_errors_even_if_ignored),
        track_started=_first(options.track_started, setup.track_started),
        limit=_limit(definition, setup),
        max_running=options.max_running,
    )


def _first(own: bool | None, default: bool) -> bool:
    return default if own is None else own


def _limit(definition: TaskDefinition, setup: WorkerSetup) -> Limit | None:
    options = definition.options
    rate = parse_rate(setup.rate_limit if options.rate_limit is None else options.rate_limit)
    if rate is None or setup.disable_rate_limits:
        return None
    key_of = None
    if options.limit_key is not None:
        key_of = key_maker(definition.name, definition.fn, options.limit_key, takes_context=definition.takes_context)
    digest = hashlib.sha256(definition.name.encode()).hexdigest()[:32]
    return Limit(rate=rate, fleet=options.limit_scope == "fleet", key_of=key_of, bucket=f"rate.{digest}")
