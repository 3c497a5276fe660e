"""Reads a task function's parameters, whatever state its annotations are in."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from asyncq._context import Context

__all__ = ["UnresolvedAnnotation", "parameters_of", "resolve", "takes_context"]


class UnresolvedAnnotation(Exception):
    """An annotation names something that can't be found at run time, such as an import under TYPE_CHECKING."""


def parameters_of(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters as declared, annotations unresolved. Raises ValueError for a callable that tells no signature."""
    if sys.version_info >= (3, 14):
        import annotationlib

        # Annotations are evaluated on demand there; what can't be found comes back as a ForwardRef.
        return list(inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF).parameters.values())
    return list(inspect.signature(fn).parameters.values())


def resolve(fn: Callable[..., Any], annotation: object) -> Any:  # Any: whatever the user wrote
    """What one annotation of `fn` means. Raises UnresolvedAnnotation.

    One at a time, so that a name which is missing takes no other parameter with it.
    """
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    namespace = getattr(inspect.unwrap(fn), "__globals__", {})
    try:
        return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except Exception as error:  # noqa: BLE001 - an annotation is code of the user's: evaluating it may raise anything
        raise UnresolvedAnnotation(f"{type(error).__name__}: {error}") from None


def takes_context(fn: Callable[..., Any]) -> bool:
    """True when the first parameter is a `Context`, by type, or by name where the name can't be resolved."""
    try:
        parameters = parameters_of(fn)
    except ValueError:
        return False
    if not parameters or parameters[0].kind not in _POSITIONAL:
        return False
    annotation = parameters[0].annotation
    try:
        resolved = resolve(fn, annotation)
    except UnresolvedAnnotation:
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", "")
        return text.strip("'\"").rpartition(".")[2] == Context.__name__
    return isinstance(resolved, type) and issubclass(resolved, Context)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
