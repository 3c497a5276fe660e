"""Keys made of a call's arguments: what is limited or unique apart from other calls of the same task."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from asyncq._parameters import parameters_of
from asyncq.errors import ConfigurationError, EncodeError
from asyncq.protocol import dumps

# `Any` below: arguments of the user's tasks.

#: Names of parameters, or a function that gets the call's arguments as the task does (without a context) and returns
#: what tells the calls apart.
KeySpec: TypeAlias = str | Sequence[str] | Callable[..., object]

#: Gives a call's key, from its args and kwargs.
KeyOf: TypeAlias = Callable[[Sequence[Any], Mapping[str, Any]], str]


def key_maker(task: str, fn: Callable[..., Any], spec: KeySpec | None, *, takes_context: bool) -> KeyOf:
    """Make the function that gives the keys of a task's calls; without a spec all arguments count.

    Raises ConfigurationError for a parameter that the task has not.
    """
    if callable(spec):
        return lambda args, kwargs: _digest(task, _told_by(spec, args, kwargs))
    parameters = parameters_of(fn)[1 if takes_context else 0 :]
    if spec is None:
        positions = {p.name: index for index, p in enumerate(parameters) if p.kind in _POSITIONAL}
        return lambda args, kwargs: _digest(task, _all_arguments(args, kwargs, positions))
    names = [spec] if isinstance(spec, str) else list(spec)
    known = {parameter.name: (index, parameter) for index, parameter in enumerate(parameters)}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"task {task!r} has no parameter {name!r} to make a key of")
    chosen = [(name, *known[name]) for name in names]

    def key_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        return _digest(task, [_argument(name, index, parameter, args, kwargs) for name, index, parameter in chosen])

    return key_of


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _told_by(spec: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    try:
        return spec(*args, **kwargs)
    except Exception as error:  # a function of the user's, on arguments that anybody may have sent
        raise EncodeError(f"the key's function raised {type(error).__name__}: {error}") from error


def _argument(
    name: str, index: int, parameter: inspect.Parameter, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    if name in kwargs:
        return kwargs[name]
    if parameter.kind in _POSITIONAL and index < len(args):
        return args[index]
    return None if parameter.default is inspect.Parameter.empty else parameter.default


def _all_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], positions: Mapping[str, int]) -> Any:
    """A call's arguments so that `f(1, 2)` and `f(1, b=2)` look alike."""
    named = {name: args[index] for name, index in positions.items() if index < len(args)}
    rest = list(args[len(named) :])
    return [sorted({**named, **kwargs}.items()), rest]


def _digest(task: str, value: object) -> str:
    # A digest, since arguments may be secret, long, or hold what a key may not. Raises EncodeError.
    try:
        encoded = dumps(value)
    except EncodeError:
        from asyncq._validation import dump_result  # models among them, which only pydantic can read

        encoded = dumps(dump_result(value))
    return hashlib.sha256(task.encode() + b"\x00" + encoded).hexdigest()[:32]
