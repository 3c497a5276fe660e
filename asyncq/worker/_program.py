"""The tasks of a worker, made ready to run: options resolved and validators built once, at start."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from asyncq._definition import TaskDefinition
from asyncq._validation import Validator, build_validator
from asyncq.worker._setup import WorkerSetup


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


def compile_tasks(setup: WorkerSetup) -> Mapping[str, Program]:
    """Make every task of the app ready to run."""
    return {name: _compile(definition, setup) for name, definition in setup.tasks.items()}


def _compile(definition: TaskDefinition, setup: WorkerSetup) -> Program:
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
    )


def _first(own: bool | None, default: bool) -> bool:
    return default if own is None else own
