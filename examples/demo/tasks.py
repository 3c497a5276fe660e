"""The two kinds of work that people use queues for: waiting for a network, and using a processor.

The app has no settings of its own: a SQLite file carries everything. `ASYNCQ_BROKER=redis://…` and
`ASYNCQ_BACKEND=redis://…` in the environment move the very same program to Redis.
"""

from typing import TypedDict

import aiohttp
from PIL import Image

from asyncq import AsyncQ, Context

queue = AsyncQ("demo")


class Page(TypedDict):
    size: int
    attempts: int


@queue.task(max_retries=8, retry_on=(aiohttp.ClientError,), retry_backoff=0.2, retry_backoff_max=2)
async def fetch_page(ctx: Context, url: str) -> Page:
    """I/O-bound: thousands of these share one process. The site fails now and then, so it is tried again."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session, session.get(url) as response:
        body = await response.read()
    return Page(size=len(body), attempts=ctx.retries + 1)


@queue.task
def make_thumbnail(source: str, target: str, edge: int) -> list[int]:
    """CPU-bound: a plain function runs in a thread, and Pillow lets go of the interpreter while it works."""
    with Image.open(source) as picture:
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        picture.save(target, quality=85)
        return list(picture.size)
