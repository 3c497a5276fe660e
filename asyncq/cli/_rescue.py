"""Does for dead workers what needs their servers: `python -m asyncq.cli._rescue`, started by the supervisor.

It reads one line of base64 (the dead worker's brief), then commands, one JSON object a line, and answers each by one
line: `ok`, or `failed: …`. Any command may be repeated. It ends with its input. The user's code is not imported.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import suppress
from typing import Any

import msgspec

from asyncq._brief import Brief, decode_brief
from asyncq._clock import system_environment
from asyncq._flight import Flight, Stage
from asyncq._operating._burying import Death, bury
from asyncq._operating._servers import Servers
from asyncq._suspicion import Conviction, convict
from asyncq.driver import Environment
from asyncq.errors import AsyncqError, ConfigurationError

# `Any` below: commands as they come, from the supervisor alone.

#: Seconds for a command, which may have to connect first: less than the supervisor waits for an answer.
_PATIENCE = 15.0


class Rescue:
    """Does what it is told for one dead worker."""

    def __init__(self, brief: Brief, environment: Environment) -> None:
        self._brief = brief
        self._clock = environment.clock
        self.servers = Servers(brief, environment)

    async def do(self, command: dict[str, Any]) -> None:
        """Do what is asked for. Raises what the servers raise, TimeoutError, and ValueError for no command."""
        async with asyncio.timeout(_PATIENCE):
            match command["do"]:
                case "convict":
                    coordination = await self.servers.coordination()
                    if coordination is None:
                        raise ConfigurationError("neither the broker nor the result backend keeps convictions")
                    await convict(coordination, command["task_id"], Conviction(command["reason"], command["limit"]))
                case "bury":
                    death = Death(
                        node=command["node"],
                        flights=[Flight(row[0], Stage(row[1]), *row[2:]) for row in command["flights"]],
                        suspect=command["suspect"],
                        culprit=command["culprit"],
                    )
                    patient = command.get("patient", True)
                    await bury(death, self._brief, self.servers, clock=self._clock, patient=patient)
                case unknown:
                    raise ValueError(f"no command: {unknown!r}")


def main() -> None:
    try:
        brief = decode_brief(base64.b64decode(sys.stdin.buffer.readline()))
    except (ValueError, msgspec.DecodeError) as error:
        sys.exit(f"asyncq: what a dead worker has left can't be read: {error}")
    if brief is None:
        sys.exit("asyncq: a dead worker has left nothing that would lead to its servers")
    with asyncio.Runner() as runner:
        rescue = Rescue(brief, system_environment())
        try:
            with suppress(AsyncqError):  # the first command will say so
                runner.run(rescue.servers.broker())  # before it is asked for: then it is urgent
            for line in sys.stdin.buffer:
                print(_answer(runner, rescue, line), flush=True)  # noqa: T201 - the answer
        finally:
            runner.run(rescue.servers.close())


def _answer(runner: asyncio.Runner, rescue: Rescue, line: bytes) -> str:
    try:
        runner.run(rescue.do(json.loads(line)))
    except TimeoutError:
        return f"failed: not done within {_PATIENCE:g} s"
    except Exception as error:  # noqa: BLE001 - the supervisor logs it, and tries again
        return f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
    return "ok"


if __name__ == "__main__":
    main()
