"""The Lua scripts of the folder `lua`: everything that must happen in one step on the server."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from asyncq_brokers._clients.redis import Script

__all__ = ["script"]


def script(name: str) -> Script:
    """The script of a name."""
    return _scripts()[name]


@cache
def _scripts() -> Mapping[str, Script]:
    """All of them, at the first use of one: when tasks have taken every descriptor, no file can be opened any more."""
    return {
        path.name.removesuffix(".lua"): Script(path.name.removesuffix(".lua"), path.read_text(encoding="utf-8"))
        for path in files("asyncq_brokers.redis").joinpath("lua").iterdir()
        if path.name.endswith(".lua")
    }
