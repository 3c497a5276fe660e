"""A small web site on this machine that is slow, and fails now and then."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

FAILURE_RATE = 0.1
SLOWEST = 0.3  # seconds


@dataclass
class Site:
    """What the site knows of itself."""

    address: str
    served: int = 0
    failed: int = 0

    def page_url(self, number: int) -> str:
        return f"{self.address}/pages/{number}"


def page_body(number: int) -> bytes:
    """The page as it should arrive."""
    return f"<h1>Page {number}</h1>\n".encode() + b"<p>Lorem ipsum.</p>\n" * (number % 50 + 1)


@asynccontextmanager
async def flaky_site(dice: random.Random) -> AsyncGenerator[Site]:
    """Serve pages on a free port of the loopback address; a tenth of the answers is a 503."""
    site = Site(address="")

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(dice.uniform(0.02, SLOWEST))
        if dice.random() < FAILURE_RATE:
            site.failed += 1
            raise web.HTTPServiceUnavailable(text="try again")
        site.served += 1
        return web.Response(body=page_body(int(request.match_info["number"])), content_type="text/html")

    app = web.Application()
    app.router.add_get(r"/pages/{number:\d+}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        host, port = runner.addresses[0]
        site.address = f"http://{host}:{port}"
        yield site
    finally:
        await runner.cleanup()
