"""The Lua scripts of the folder `lua`: everything that must happen in one step on the server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from asyncq_brokers._clients.redis import Script

__all__ = ["script"]


@cache
def script(name: str) -> Script:
    """The script of a name, read from the package once."""
    return Script(name, files("asyncq_brokers.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8"))
