"""Exceptions in records: described as Celery describes them, revived from a registry and from nothing else."""

from __future__ import annotations

import asyncio
import builtins
import random
import sys
from typing import Any

import pytest

import golden
from asyncq import errors
from asyncq.errors import AsyncqError, RemoteTaskError
from asyncq.protocol import ExceptionRegistry, decode_result, describe_exception, dumps


class AppError(Exception):
    """One that the app declares."""


class Outer:
    class Inner(Exception):
        """A nested one."""


class Picky(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        if not two:
            raise KeyError(two)


class Unrepresentable:
    def __repr__(self) -> str:
        raise SystemError


_REGISTRY = ExceptionRegistry([AppError, Outer.Inner, Picky])


# -- describing ----------------------------------------------------------------------------------------------


def test_an_exception_is_its_class_and_its_arguments() -> None:
    assert describe_exception(Outer.Inner("x", {"a": 1})) == {
        "exc_type": "Outer.Inner",
        "exc_message": ["x", {"a": 1}],
        "exc_module": __name__,
    }


def test_an_argument_without_an_encoding_becomes_its_repr() -> None:
    described = describe_exception(ValueError({1, 2}, ValueError("x"), b"\xff", Unrepresentable(), [Unrepresentable()]))
    assert described["exc_message"] == ["{1, 2}", "ValueError('x')", b"\xff", "<Unrepresentable>", "<list>"]
    dumps(described)
    assert describe_exception(ValueError(b"\xff", {1: 2}), serializer="msgpack")["exc_message"] == [b"\xff", "{1: 2}"]


def test_an_exception_that_lies_about_itself() -> None:
    class Liar(Exception):
        __module__ = None  # type: ignore[assignment] - what it lies about

        @property
        def args(self) -> Any:  # type: ignore[override] - and this
            raise SystemError

    described = describe_exception(Liar("x"))
    assert described["exc_message"] == ["x"]
    dumps(described)


# -- reviving ------------------------------------------------------------------------------------------------


def _described(module: object, name: object, *args: object) -> dict[str, object]:
    return {"exc_type": name, "exc_message": list(args), "exc_module": module}


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("boom", 1),
        KeyError(),
        ZeroDivisionError("division by zero"),
        OSError(2, "No such file"),
        AppError("x"),
        Outer.Inner("x", 2),
        errors.NotRegistered("t"),
        errors.TaskRevokedError("expired"),
        errors.TimeLimitExceeded(3.5),
        errors.WorkerLostError("gone"),
        errors.ChordError("Dependency x raised y"),
        errors.MaxRetriesExceededError("Can't retry"),
        errors.InvalidArguments("n: not an int"),
        errors.EncodeError("no"),
        errors.Ignore(),
        RemoteTaskError("proj.Error", "text", "traceback"),
    ],
)
def test_what_was_described_comes_back(exc: Exception) -> None:
    revived = _REGISTRY.revive(describe_exception(exc), traceback=None)
    assert type(revived) is type(exc)
    assert revived.args[:2] == exc.args[:2]
    assert str(revived) == str(exc)


def test_reject_and_retry_come_back_with_what_they_ask_for() -> None:
    reject = _REGISTRY.revive(describe_exception(errors.Reject("full", requeue=True)), traceback=None)
    assert isinstance(reject, errors.Reject)
    assert (reject.reason, reject.requeue) == ("full", True)

    retry = _REGISTRY.revive(describe_exception(errors.Retry("later", ValueError("x"), countdown=3)), traceback=None)
    assert isinstance(retry, errors.Retry)
    assert (retry.message, str(retry.exc)) == ("later", "Exception: ValueError('x')")

    theirs = _described("celery.exceptions", "Retry", "Retry(Retry(...), None, None)", None, None)
    assert isinstance(_REGISTRY.revive(theirs, traceback=None), errors.Retry)


def test_a_soft_time_limit_does_not_come_back_as_a_cancellation() -> None:
    revived = _REGISTRY.revive(describe_exception(errors.SoftTimeLimitExceeded()), traceback=None)
    assert isinstance(revived, errors.TimeLimitExceeded)
    assert not isinstance(revived, asyncio.CancelledError)


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration"])
def test_what_can_not_leave_a_coroutine_does_not_come_back(name: str) -> None:
    assert _REGISTRY.revive(_described("builtins", name, 1), traceback=None).args == (name, "1")


def test_an_unknown_class_becomes_a_remote_task_error() -> None:
    exc = _REGISTRY.revive(_described("proj.tasks", "Custom", "boom", 1), traceback="Traceback …")
    assert isinstance(exc, RemoteTaskError)
    assert (exc.type, exc.message, exc.traceback) == ("proj.tasks.Custom", "('boom', 1)", "Traceback …")
    assert str(_REGISTRY.revive(_described("proj", "Custom", "boom"), traceback=None)) == "proj.Custom: boom"


def test_arguments_that_do_not_fit_the_class_make_a_remote_task_error() -> None:
    for described in (
        _described(__name__, "Picky", "one"),
        _described(__name__, "Picky", "one", ""),
        _described("builtins", "UnicodeDecodeError", "x"),
        _described("builtins", "ExceptionGroup", "x", "repr"),
    ):
        exc = _REGISTRY.revive(described, traceback=None)
        assert isinstance(exc, RemoteTaskError)
        assert str(described["exc_type"]) in exc.type


def test_the_traceback_is_a_note() -> None:
    exc = _REGISTRY.revive(_described("builtins", "ValueError", "x"), traceback="Traceback (most recent call last): …")
    assert exc.__notes__ == ["Traceback in the worker:\nTraceback (most recent call last): …"]


def test_celerys_wrapper_is_unwrapped() -> None:
    [raw] = golden.stored_records("failure-unpickleable").values()
    record = decode_result(raw)
    exc = ExceptionRegistry().revive(record.result, traceback=record.traceback)
    assert isinstance(exc, RemoteTaskError)
    assert (exc.type, exc.message) == ("proj.tasks.BadInit", "aa")
    wrapped = _described("celery.utils.serialization", "UnpickleableExceptionWrapper", __name__, "AppError", ["x"], "…")
    assert isinstance(_REGISTRY.revive(wrapped, traceback=None), AppError)


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (None, "Exception"),
        ("it broke", "Exception: it broke"),
        ({}, "Exception"),
        ({"exc_type": "ValueError"}, "ValueError"),
        ({"exc_type": "ValueError", "exc_module": None, "exc_message": "x"}, "ValueError: x"),
        ({"exc_type": 5, "exc_module": [], "exc_message": {"a": 1}}, "Exception: {'a': 1}"),
        ({"exc_type": ["x"], "exc_module": "builtins", "exc_message": None}, "Exception"),
        ([["exc_type", "ValueError"]], "Exception: [['exc_type', 'ValueError']]"),
    ],
)
def test_what_is_no_description_is_an_exception_all_the_same(described: object, text: str) -> None:
    exc = _REGISTRY.revive(described, traceback=None)
    assert type(exc) is RemoteTaskError
    assert str(exc) == text


def test_the_message_may_be_no_list() -> None:
    described = {"exc_type": "ValueError", "exc_module": "builtins", "exc_message": "x"}
    assert _REGISTRY.revive(described, traceback=None).args == ("x",)


# -- hostile -------------------------------------------------------------------------------------------------

_watched: list[str] = []
_watching = False


def _audit(event: str, _args: object) -> None:
    if _watching and event.split(".", maxsplit=1)[0] in {
        "import",
        "os",
        "subprocess",
        "open",
        "exec",
        "compile",
        "pickle",
        "socket",
    }:
        _watched.append(event)


sys.addaudithook(_audit)


def _hostile(dice: random.Random) -> dict[str, object]:
    modules = [
        "builtins",
        "os",
        "subprocess",
        "sys",
        "asyncq.errors",
        "celery.exceptions",
        "importlib",
        "shutil",
        "x.y",
    ]
    types = ["system", "Popen", "exit", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException", "eval",
             "exec", "open", "__import__", "type", "object", "BaseExceptionGroup", "Exception.__class__", "ValueError",
             "errors.os.system", "Retry", "ImportError", "OSError", "print", "input", ""]  # fmt: skip
    payloads: list[object] = [
        "touch /tmp/x",
        ["touch", "x"],
        {"a": 1},
        None,
        5,
        "antigravity",
        10**400,
        [[[]]],
        "\udc80",
    ]
    return {
        "exc_module": dice.choice([*modules, None, 5, [], {}]),
        "exc_type": dice.choice([*types, *dir(builtins), None, 5, [], {}]),
        "exc_message": dice.choice([payloads[: dice.randrange(4)], dice.choice(payloads)]),
    }


def test_ten_thousand_hostile_records_make_exceptions_and_import_nothing() -> None:
    global _watching  # noqa: PLW0603 - an audit hook can't be taken out again, only told to look away
    dice = random.Random(7)
    descriptions = [_hostile(dice) for _ in range(10_000)]
    loaded = set(sys.modules)
    _watched.clear()
    _watching = True
    try:
        revived = [_REGISTRY.revive(described, traceback="t") for described in descriptions]
    finally:
        _watching = False
    assert _watched == []
    assert set(sys.modules) == loaded
    assert all(isinstance(exc, Exception) for exc in revived)
    assert {type(exc) for exc in revived if isinstance(exc, AsyncqError)} >= {RemoteTaskError}
    for described, exc in zip(descriptions, revived, strict=True):
        if described["exc_module"] not in ("builtins", "asyncq.errors", "celery.exceptions"):
            assert type(exc) is RemoteTaskError
