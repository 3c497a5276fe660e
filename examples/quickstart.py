"""The smallest whole program: two tasks, a worker inside this process, their results.

    python examples/quickstart.py

The worker can as well be a process of its own: `asyncq worker examples/quickstart.py:queue`.
"""

import asyncio

from asyncq import AsyncQ, Context

queue = AsyncQ("quickstart")


@queue.task
async def greet(name: str) -> str:
    await asyncio.sleep(0.1)
    return f"Hello, {name}!"


@queue.task(max_retries=3, retry_backoff=0.1)
async def unreliable(ctx: Context) -> int:
    if ctx.retries < 2:
        raise ctx.retry()
    return ctx.retries + 1


async def main() -> None:
    async with queue, queue.worker():
        greeting = await greet.send("world")
        attempts = await unreliable.send()
        print(await greeting.get(timeout=10))
        print(f"It took {await attempts.get(timeout=10)} attempts")


if __name__ == "__main__":
    asyncio.run(main())
