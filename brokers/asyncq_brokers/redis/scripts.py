"""The Lua scripts of the folder `lua`: everything that must happen in one step on the server."""

from __future__ import annotations

from asyncq_brokers._clients.redis import Script, load_scripts

__all__ = ["script"]

_SCRIPTS = load_scripts("asyncq_brokers.redis")


def script(name: str) -> Script:
    """The script of a name."""
    return _SCRIPTS[name]
