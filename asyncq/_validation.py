"""Checks a message's arguments against the task's signature, and turns models into what can travel.

Each annotated parameter gets a validator of its own, built once when the worker starts; a parameter without an
annotation, or with `Any`, gets none. Values count as JSON does: text becomes a datetime or a UUID where the signature
says so, an object becomes a model or a dataclass.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import operator
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import pydantic
import pydantic_core

from asyncq._parameters import UnresolvedAnnotation, parameters_of, resolve
from asyncq.errors import EncodeError, InvalidArguments

if TYPE_CHECKING:
    from asyncq._definition import TaskDefinition

__all__ = ["Validator", "build_validator", "dump_result"]

# `Any` below: arguments are whatever the sender put into the message, results whatever the task returned.

#: Takes a message's args and kwargs, returns what the task is called with. Raises InvalidArguments. The arguments
#: that it is given stay as they are.
Validator: TypeAlias = Callable[[list[Any], dict[str, Any]], tuple[Sequence[Any], dict[str, Any]]]

_logger = logging.getLogger("asyncq.worker")

#: Types of which every instance passes as it is: asking pydantic would only cost time.
_AS_THEY_ARE = frozenset({int, float, str, bool, bytes, list, dict, type(None)})

#: Complaints about one argument that an error's text lists.
_MOST_COMPLAINTS = 5


class _Check:
    """One parameter's validator."""

    __slots__ = ("_parameter", "_task", "_validator", "exact")

    def __init__(self, task: str, parameter: str, annotation: Any) -> None:
        self._task = task
        self._parameter = parameter
        self._validator = _adapter_of(annotation).validator
        #: Values of exactly this type need no check.
        self.exact: type | None = annotation if isinstance(annotation, type) and annotation in _AS_THEY_ARE else None

    def __call__(self, value: Any) -> Any:
        try:
            return self._validator.validate_python(value, by_alias=True, by_name=True)
        except pydantic.ValidationError as error:
            complaints = error.errors(include_url=False, include_context=False, include_input=False)
        try:
            # A strict model takes text for a datetime from JSON alone, and from JSON it came.
            return self._validator.validate_json(pydantic_core.to_json(value), by_alias=True, by_name=True)
        except (pydantic.ValidationError, pydantic_core.PydanticSerializationError, ValueError):
            # Not chained: pydantic's own text shows the values, and this one ends up in logs and in the record.
            raise InvalidArguments(f"{self._task}: {self._describe(complaints)}") from None

    def _describe(self, complaints: Sequence[Mapping[str, Any]]) -> str:
        lines = [
            f"{'.'.join([self._parameter, *map(str, complaint['loc'])])}: {complaint['msg']}"
            for complaint in complaints[:_MOST_COMPLAINTS]
        ]
        if len(complaints) > _MOST_COMPLAINTS:
            lines.append(f"and {len(complaints) - _MOST_COMPLAINTS} more")
        return "; ".join(lines)


def build_validator(definition: TaskDefinition) -> Validator | None:
    """The validator of a task's arguments; None when there is nothing to check.

    An annotation that can't be resolved or that pydantic can't read leaves its parameter unchecked, with one warning
    that names it.
    """
    try:
        parameters = parameters_of(definition.fn)
    except ValueError:
        return None
    if definition.takes_context:
        parameters = parameters[1:]
    checks = {parameter.name: _check_of(definition, parameter) for parameter in parameters}
    arity = _Arity(definition.name, parameters)
    if not any(checks.values()):
        return None if arity.takes_anything else _arity_validator(arity)
    return _full_validator(arity, checks)


def _arity_validator(arity: _Arity) -> Validator:
    def validate(args: list[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        if kwargs or not arity.fewest <= len(args) <= arity.most:
            arity.check(len(args), kwargs)
        return args, kwargs

    return validate


def _full_validator(arity: _Arity, checks: Mapping[str, _Check | None]) -> Validator:
    at_position = [
        (index, check.exact, check)
        for index, name in enumerate(arity.positional)
        if (check := checks[name]) is not None
    ]
    by_name = {name: check for name in arity.by_name if (check := checks[name]) is not None}
    further = checks.get(arity.var_positional) if arity.var_positional else None
    other_names = checks.get(arity.var_keyword) if arity.var_keyword else None
    named = len(arity.positional)

    def validate(args: list[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        count = len(args)
        if kwargs or not arity.fewest <= count <= arity.most:
            arity.check(count, kwargs)
        values = args
        for index, exact, check in at_position:
            if index >= count:
                break
            value = args[index]
            if type(value) is not exact:
                if values is args:
                    values = list(args)
                values[index] = check(value)
        if further is not None and count > named:
            values = [*values[:named], *map(further, args[named:])]
        if kwargs:
            kwargs = {
                name: value if (check := by_name.get(name, other_names)) is None else check(value)
                for name, value in kwargs.items()
            }
        return values, kwargs

    return validate


class _Arity:
    """Which arguments a function takes, by number and by name."""

    def __init__(self, task: str, parameters: Sequence[inspect.Parameter]) -> None:
        kinds = inspect.Parameter
        self._task = task
        #: Names of the parameters that can be given by position.
        self.positional = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        self.by_name = {p.name for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
        self.var_positional = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self.var_keyword = next((p.name for p in parameters if p.kind is kinds.VAR_KEYWORD), None)
        variadic = (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        self._required = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
        at_position = set(self.positional)
        by_name_alone = any(name not in at_position for name in self._required)
        #: Without keyword arguments, numbers of arguments from `fewest` to `most` are right.
        self.most = float("inf") if self.var_positional else len(self.positional)
        self.fewest = float("inf") if by_name_alone else len(self._required)

    @property
    def takes_anything(self) -> bool:
        return bool(self.var_positional and self.var_keyword) and not self._required

    def check(self, count: int, kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidArguments unless so many positional arguments and these keyword arguments fit."""
        if count > self.most:
            self._refuse(f"takes at most {len(self.positional)} positional arguments, {count} were given")
        given = set(self.positional[:count])
        for name in kwargs:
            if name in self.by_name and name in given:
                self._refuse(f"argument {name!r} was given twice")
            if name not in self.by_name and self.var_keyword is None:
                self._refuse(f"unexpected argument {name!r}")
        for name in self._required:
            if name not in given and not (name in kwargs and name in self.by_name):
                self._refuse(f"missing argument {name!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidArguments(f"{self._task}: {what}")


def _check_of(definition: TaskDefinition, parameter: inspect.Parameter) -> _Check | None:
    try:
        annotation = resolve(definition.fn, parameter.annotation)
        # `*args: P.args`, `*args: *Ts` and `**kwargs: Unpack[…]` describe all of them at once, not each value.
        if annotation in (Any, object) or isinstance(annotation, typing.ParamSpecArgs | typing.ParamSpecKwargs):
            return None
        if typing.get_origin(annotation) is typing.Unpack:
            return None
        return _Check(definition.name, parameter.name, annotation)
    except UnresolvedAnnotation as error:
        reason = f"the annotation can't be resolved ({error})"
    except Exception as error:  # noqa: BLE001 - a type's own schema hooks may raise anything; the task still runs
        reason = f"pydantic can't read the annotation ({type(error).__name__})"
    _logger.warning("Task %s: values of %r are not checked: %s", definition.name, parameter.name, reason)
    return None


def _adapter_of(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        adapter = pydantic.TypeAdapter(annotation)
    except pydantic.PydanticSchemaGenerationError:
        # Only tried second: models, dataclasses and typed dicts refuse a config from outside.
        return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    adapter.rebuild(raise_errors=True)  # a model that waits for a name would else fail at the first message
    return adapter


# -- out -----------------------------------------------------------------------------------------------------

_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


def dump_result(value: Any) -> Any:
    """`value` with pydantic models and dataclasses, at any depth, turned into plain JSON-able values.

    What holds none comes back as the same object. Field names are used, not aliases. Raises EncodeError for a model
    that doesn't serialise.
    """
    kind = type(cast("object", value))
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return _dump_items(value)
    if kind is dict:
        return _dump_values(value)
    if isinstance(value, pydantic.BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        try:
            return pydantic_core.to_jsonable_python(value, by_alias=False)
        except pydantic_core.PydanticSerializationError as error:
            raise EncodeError(f"{type(value).__name__} can't be turned into JSON: {error}") from error
    return value


def _dump_items(items: Sequence[Any]) -> Sequence[Any]:
    dumped = [item if type(item) in _SCALARS else dump_result(item) for item in items]
    if all(map(operator.is_, dumped, items)):
        return items
    return dumped


def _dump_values(mapping: dict[Any, Any]) -> dict[Any, Any]:
    dumped = [value if type(value) in _SCALARS else dump_result(value) for value in mapping.values()]
    if all(map(operator.is_, dumped, mapping.values())):
        return mapping
    return dict(zip(mapping, dumped, strict=True))
