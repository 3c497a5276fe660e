"""The command line `asyncq …`: it parses, hands the work to the library, and prints.

One command a module. What only some commands need is imported inside them, so that `asyncq --help` and a completion in
the shell don't wait for pydantic or a server's client.
"""

from __future__ import annotations

from asyncq.cli._main import main

__all__ = ["main"]
