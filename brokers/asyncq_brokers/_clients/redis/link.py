"""A connection that is made when it is needed, and made again after it was lost; and scripts on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from asyncq.driver import Clock
from asyncq_brokers._clients.error_family import ErrorFamily

from .endpoint import Endpoint
from .errors import translate
from .session import Command, Session

__all__ = ["Link", "Script", "load_scripts"]


class Script:
    """A Lua script and its name on the server."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: bytes) -> None:
        self.name = name
        self.source = source
        # The server's name for a script; nothing rests on its strength.
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest()


def load_scripts(package: str) -> Mapping[str, Script]:
    """The scripts of a package's folder `lua`, by name.

    To be called when a module is imported: once tasks have taken every descriptor, no file can be opened any more.
    """
    paths = [path for path in files(package).joinpath("lua").iterdir() if path.name.endswith(".lua")]
    scripts = [Script(path.name.removesuffix(".lua"), path.read_bytes()) for path in paths]
    return {script.name: script for script in scripts}


class Link:
    """One shared connection to one endpoint. Belongs to the event loop that first awaits it.

    Every call has one deadline, connecting included, and makes at most one attempt to connect. A call whose connection
    breaks half-way is not repeated: whether it had its effect is unknown, and only the caller knows what that means.
    """

    def __init__(self, endpoint: Endpoint, *, errors: ErrorFamily, clock: Clock, timeout: float) -> None:
        self.endpoint = endpoint
        self.errors = errors
        self.timeout = timeout
        self._clock = clock
        #: Monotonic time of the last reply; of the making before the first one.
        self.last_reply = clock.monotonic()
        self._session: Session | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write; returns their replies in order. Refusals are *returned*, translated.

        Raises the driver's connection error when the connection can't be made, breaks or is too slow.
        """
        deadline = asyncio.get_running_loop().time() + self.timeout
        session = await self._connected(deadline)
        answers = await session.post(commands, deadline)
        self.last_reply = self._clock.monotonic()
        for position, answer in enumerate(answers):
            if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
                answers[position] = translate(answer, self.errors, self.endpoint.address)
        if any(isinstance(answer, self.errors.connection) for answer in answers):
            # The server says that it is the wrong one (a replica, a loading master): the next call connects anew.
            await session.close()
        return answers

    async def call(self, *command: str | bytes | int) -> Any:
        """Send one command; returns its reply or raises the refusal."""
        (answer,) = await self.pipeline([command])
        return answer

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write; returns their replies in order, or raises the first refusal."""
        answers = await self.calls(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in MULTI and EXEC: all are carried out or, refused beforehand, none.

        Returns EXEC's replies; what one command refuses when its turn comes (a key of the wrong type) undoes none of
        the others, and is *returned*, translated. A full server refuses even reading in a transaction: raised.
        """
        *_, answer = await self.pipeline([("MULTI",), *commands, ("EXEC",)])
        address = self.endpoint.address
        return [translate(a, self.errors, address) if isinstance(a, Exception) else a for a in answer]

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        """Run a script, loading it first where the server doesn't know it (any more)."""
        evaluate: Command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        (answer,) = await self.calls([evaluate])
        if isinstance(answer, NoScriptError):  # not executed: safe to send again
            _, answer = await self.calls([("SCRIPT", "LOAD", script.source), evaluate])
        if isinstance(answer, NoScriptError):
            raise translate(answer, self.errors, self.endpoint.address)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Close for good; calls under way and later ones fail. May be called twice."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _connected(self, deadline: float) -> Session:
        session = self._session
        if session is not None and session.alive:
            return session
        try:
            async with asyncio.timeout_at(deadline), self._connecting:
                if self._session is not None:
                    if self._session.alive:
                        return self._session
                    await self._session.close()
                    self._session = None
                self._refuse_if_closed()
                self._session = session = await Session.open(self.endpoint, errors=self.errors)
        except TimeoutError as error:
            raise translate(error, self.errors, self.endpoint.address) from error
        if self._closed:  # meanwhile
            await session.close()
            self._refuse_if_closed()
        return session

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise self.errors.connection(f"the connection to Redis at {self.endpoint.address} is closed")
