"""Finds the AsyncQ that `app:queue` names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from asyncq.cli._failures import CommandError, UserCodeError

if TYPE_CHECKING:
    from asyncq import AsyncQ


def locate(target: str) -> AsyncQ:
    """Import the module that `target` names, and those that its app includes; return the app.

    `target` is `module:name`, `path/file.py:name`, or either without the name where one AsyncQ is in it. The current
    folder comes first on `sys.path`, as with `python -m`. Raises CommandError, ConfigurationError;
    UserCodeError when the user's own code raises.
    """
    module_name, _, attribute = target.partition(":")
    module_name = _module_of_file(module_name) if _is_path(module_name) else _module_here(module_name)
    with _blaming(module_name):
        module = importlib.import_module(module_name)
    queue = _named(module, attribute) if attribute else _only(module)
    with _blaming(module_name):
        queue.import_modules()
    return queue


@contextmanager
def _blaming(name: str) -> Generator[None]:
    """Whatever goes wrong inside is the doing of module `name`, unless it can't be found at all."""
    from asyncq.errors import AsyncqError

    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise CommandError(
                f"no module named {missing!r}, neither in {Path.cwd()} nor installed; "
                "run asyncq from the folder that holds it, or give the path to the file"
            ) from None
        raise UserCodeError(name, error) from error
    except AsyncqError:
        raise  # it says what to do by itself
    except Exception as error:  # the boundary between us and the user's code
        raise UserCodeError(name, error) from error


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _module_here(name: str) -> str:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise CommandError(f"{name!r} is no module's name; say which app, as in: asyncq worker shop.tasks:queue")
    _put_first(Path.cwd())
    return name


def _module_of_file(name: str) -> str:
    """The dotted name of a file, seen from the folder above its outermost package: what its siblings import it as."""
    path = Path(name).resolve()
    if path.is_dir():
        path /= "__init__.py"
    if not path.is_file():
        raise CommandError(f"there is no file {name}")
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    _put_first(root)
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _put_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _named(module: ModuleType, attribute: str) -> AsyncQ:
    from asyncq import AsyncQ

    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"{module.__name__} has no {attribute!r}; {_candidates_text(module)}") from None
    if not isinstance(found, AsyncQ):
        kind = type(found).__qualname__
        raise CommandError(f"{module.__name__}:{attribute} is of type {kind}, no AsyncQ; {_candidates_text(module)}")
    return found


def _only(module: ModuleType) -> AsyncQ:
    candidates = _candidates(module)
    if len(candidates) != 1:
        raise CommandError(f"which app? {_candidates_text(module)}")
    return next(iter(candidates.values()))


def _candidates(module: ModuleType) -> dict[str, AsyncQ]:
    """Every AsyncQ in the module under its first name: an alias is no second app."""
    from asyncq import AsyncQ

    first: dict[int, tuple[str, AsyncQ]] = {}
    for name, value in vars(module).items():
        if isinstance(value, AsyncQ):
            first.setdefault(id(value), (name, value))
    return dict(first.values())


def _candidates_text(module: ModuleType) -> str:
    names = [f"{module.__name__}:{name}" for name in _candidates(module)]
    if not names:
        return f"there is no AsyncQ in {module.__name__} (it would read: queue = AsyncQ({module.__name__!r}))"
    return f"{module.__name__} has {' and '.join(names)}" if len(names) > 1 else f"there is {names[0]}"
