"""Arguments as people may see them: their shapes.

`argsrepr` and `kwargsrepr` travel in headers, events, logs and Flower, beyond what encrypts or guards the body
(reliability.md, section 7). So they tell types and sizes, never values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

#: Characters, as many as Celery shows. No item is shorter than one, so no more items than that are looked at.
_MAX_TEXT = 1024

_SIZED = frozenset({str, bytes, bytearray, list, tuple, dict, set, frozenset})

#: Names of arguments that look as if they held a secret. Rather one too many: `monkey` is masked as well.
_SECRET = re.compile("pass|pwd|secret|token|key|auth|credential|cookie|session|private", re.IGNORECASE)


def shape_of_args(args: Sequence[object]) -> str:
    """Positional arguments as shapes, such as `(<int>, <str 12>)`; at most 1024 characters."""
    comma = "," if len(args) == 1 else ""
    return _bracketed("(", map(_shape, args), f"{comma})")


def shape_of_kwargs(kwargs: Mapping[str, object]) -> str:
    """Keyword arguments as shapes, such as `{'url': <str 12>, 'token': <secret>}`; at most 1024 characters.

    Names that look as if they held a secret hide type and size, too.
    """
    return _bracketed("{", (_named_shape(name, value) for name, value in kwargs.items()), "}")


def _named_shape(name: str, value: object) -> str:
    return f"{name!r}: {'<secret>' if _SECRET.search(name) else _shape(value)}"


def _shape(value: object) -> str:
    kind = type(value)
    if value is None:
        return "None"
    if kind in _SIZED:
        return f"<{kind.__name__} {len(value)}>"  # type: ignore[arg-type] - the set above holds sized types only
    return f"<{kind.__name__}>"


def _bracketed(opening: str, shapes: Iterable[str], closing: str) -> str:
    text = ", ".join(islice(shapes, _MAX_TEXT))
    if len(text) > _MAX_TEXT - 8:
        text = f"{text[: _MAX_TEXT - 8]}..."
    return f"{opening}{text}{closing}"
