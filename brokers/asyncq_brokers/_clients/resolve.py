"""Host names to addresses, without asyncio's default executor.

That pool of threads is the user's: when slow functions fill it, a reconnect that waits there for its name fails.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress

__all__ = ["resolve"]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the order to try them. Raises OSError when it has none."""
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str] | OSError) -> None:
        if found.done():  # whoever asked was cancelled
            return
        if isinstance(addresses, OSError):
            found.set_exception(addresses)
        else:
            found.set_result(addresses)

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer: list[str] | OSError = [str(info[4][0]) for info in infos]
        except OSError as error:
            answer = error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, answer)

    # Nothing can stop a look-up; a daemon does not hold the process up either.
    threading.Thread(target=look_up, name="asyncq-resolve", daemon=True).start()
    return await found
