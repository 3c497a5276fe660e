"""Exceptions as records hold them, and back (results.md, section 4).

Celery looks up the class that a record names in whatever is imported, and calls it with what the record holds: whoever
may write a record once ran commands that way (CVE-2021-23727), and can still end a client with a SystemExit. Here a
name is a key in a registry that is filled by the app, and by nothing else.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

from asyncq import errors
from asyncq.errors import EncodeError, RemoteTaskError
from asyncq.protocol._serializers import serializer_named
from asyncq.protocol._types import DEFAULT_LIMITS

_Make: TypeAlias = Callable[..., object]

#: The names under which Celery's clients know asyncq's errors.
_WIRE_MODULES: dict[type[Exception], str] = {
    errors.ChordError: "celery.exceptions",
    errors.Ignore: "celery.exceptions",
    errors.MaxRetriesExceededError: "celery.exceptions",
    errors.NotRegistered: "celery.exceptions",
    errors.Reject: "celery.exceptions",
    errors.Retry: "celery.exceptions",
    errors.TaskRevokedError: "celery.exceptions",
    errors.SoftTimeLimitExceeded: "billiard.exceptions",
    errors.TimeLimitExceeded: "billiard.exceptions",
    errors.WorkerLostError: "billiard.exceptions",
    errors.EncodeError: "kombu.exceptions",
}

#: What a prefork Celery worker stores for an exception that it can't pickle: [module, class, args, repr].
_CELERY_WRAPPER = ("celery.utils.serialization", "UnpickleableExceptionWrapper")


def describe_exception(exc: BaseException, *, serializer: str = "json") -> dict[str, Any]:
    """What a record holds for an exception: `exc_type`, `exc_message` (a list of its arguments) and `exc_module`.

    asyncq's own errors get the names under which a Celery client knows them. An argument that the serialiser can't
    encode is replaced by its repr; an argument whose repr raises, by its type's name. Raises nothing.
    """
    kind = type(exc)
    module = _WIRE_MODULES.get(cast("type[Exception]", kind)) or kind.__module__
    # Read past whatever a subclass has made of `args`.
    args = cast("tuple[object, ...]", BaseException.args.__get__(exc))  # type: ignore[attr-defined] - a descriptor
    return {
        "exc_type": kind.__qualname__,
        "exc_message": [_encodable(value, serializer) for value in args],
        "exc_module": module,
    }


def _encodable(value: object, serializer: str) -> object:
    try:
        serializer_named(serializer).encode(value, DEFAULT_LIMITS)
    except EncodeError:
        try:
            return repr(value)
        except Exception:  # noqa: BLE001 - a repr of the user's may raise anything, and there is no more to be told
            return f"<{type(value).__qualname__}>"
    return value


class ExceptionRegistry:
    """The exceptions that may come out of a record.

    They are the builtins that derive from Exception, asyncq's own errors, and `classes`: those that the app declares.
    """

    def __init__(self, classes: Iterable[type[Exception]] = ()) -> None:
        self._makers: dict[tuple[str, str], _Make] = dict(_KNOWN)
        for cls in classes:
            self._makers[cls.__module__, cls.__qualname__] = cls

    def revive(self, described: object, *, traceback: str | None) -> Exception:
        """The exception that a record describes, with the remote traceback as a note on it.

        A class that is not in the registry, or that can't be made from the arguments in the record, becomes a
        RemoteTaskError of that name and text. Raises nothing and imports nothing, whatever is described.
        """
        if isinstance(described, Exception):  # from a pickle, which the app accepts
            return described
        module, name, args = _taken_apart(described)
        make = self._makers.get((module, name))
        exc = None if make is None else _made(make, args)
        if exc is None:
            full_name = name if module in {"", "builtins"} else f"{module}.{name}"
            return RemoteTaskError(full_name, _text_of(args), traceback)
        if traceback:
            BaseException.add_note(exc, f"Traceback in the worker:\n{traceback}")
        return exc


def _taken_apart(described: object) -> tuple[str, str, list[object]]:
    """Module, class and arguments; of what is no description, as much as there is."""
    if not isinstance(described, dict):
        # An aio-celery or celery-node worker stores null, or text.
        return "", "Exception", [] if described is None else [described]
    fields = cast("dict[object, object]", described)
    module, name, message = (fields.get(key) for key in ("exc_module", "exc_type", "exc_message"))
    args: list[object]
    if isinstance(message, list | tuple):
        args = list(cast("list[object]", message))
    else:
        args = [] if message is None else [message]
    if (module, name) == _CELERY_WRAPPER and len(args) == 4 and isinstance(args[2], list | tuple):
        module, name, args = args[0], args[1], list(cast("list[object]", args[2]))
    if not isinstance(name, str):
        return "", "Exception", args
    return module if isinstance(module, str) else "", name, args


def _made(make: _Make, args: list[object]) -> Exception | None:
    try:
        made = make(*args)
    except Exception:  # noqa: BLE001 - constructors of the app's raise what they like: the caller has an answer
        return None
    return made if isinstance(made, Exception) else None


def _text_of(args: list[object]) -> str:
    """As `str()` of an exception with these arguments would have it."""
    if not args:
        return ""
    return str(args[0]) if len(args) == 1 else repr(tuple(args))


# -- what asyncq itself adds to the registry -----------------------------------------------------------------


def _retry(message: object = None, exc: object = None, countdown: object = None) -> Exception:
    # What stood for the reason was an exception once, and is its repr here.
    reason = None if exc is None else RemoteTaskError("Exception", str(exc))
    return errors.Retry(
        message if isinstance(message, str) else None,
        reason,
        countdown=countdown if isinstance(countdown, int | float) else None,
    )


def _reject(reason: object = None, requeue: object = False) -> Exception:
    return errors.Reject(reason, requeue=requeue is True)


def _soft_time_limit(*_args: object) -> Exception:
    # Not of its own class, which is a cancellation to asyncio: raised in a client it would end the client's task as
    # cancelled, and in a task group in silence.
    return errors.TimeLimitExceeded("soft time limit exceeded")


def _known() -> Iterable[tuple[tuple[str, str], _Make]]:
    for name, found in vars(builtins).items():
        # The two that end iterations can't leave a coroutine: Python turns them into a RuntimeError.
        if (
            isinstance(found, type)
            and issubclass(found, Exception)
            and found not in (StopIteration, StopAsyncIteration)
        ):
            yield ("builtins", name), found
    for name in errors.__all__:
        cls = cast("type[Exception]", getattr(errors, name))
        make = _SPECIAL.get(cls, cls)
        yield (cls.__module__, name), make
        if cls in _WIRE_MODULES:
            yield (_WIRE_MODULES[cls], name), make


_SPECIAL: dict[type[Exception], _Make] = {
    errors.Retry: _retry,
    errors.Reject: _reject,
    errors.SoftTimeLimitExceeded: _soft_time_limit,
}

_KNOWN = dict(_known())
