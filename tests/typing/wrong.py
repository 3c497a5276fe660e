"""What must not type-check: each line that ends in `# error` is one, and no other line is.

Lines that end in `# error in pyright` are found by pyright alone.
"""

from __future__ import annotations

from asyncq import AsyncQ, AsyncResult, Context, Signature, chain, chord, group

queue = AsyncQ("shop")


@queue.task
async def add(a: int, b: int) -> int:
    return a + b


@queue.task(queue="slow")
async def fetch(url: str) -> bytes:
    return url.encode()


@queue.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@queue.task
async def report(ctx: Context, ids: list[int]) -> None: ...


async def arguments(ctx: Context) -> None:
    await add.send(1, "x")  # error
    await add.send(1)  # error
    await add.send(1, 2, 3)  # error
    await add.send(1, c=2)  # error
    await add.delay("1", 2)  # error
    add.send_sync(1, "x")  # error
    await add.options(priority=3).send(1, "x")  # error
    await report.send(ctx, [1])  # error
    await report.send(["x"])  # error
    await report(ctx, [1])  # error
    await add(1, "x")  # error
    await fetch.send(b"x")  # error


async def options() -> None:
    add.options(colour=1)  # error
    add.options(priority="high")  # error
    await add.apply_async((1, 2), countdown="soon")  # error
    await queue.send_task("x", link=[])  # error
    await queue.run_worker(colour=1)  # error
    AsyncQ("shop", concurrency="many")  # error
    AsyncQ("shop", colour=1)  # error


async def results() -> None:
    text: str = await (await add.send(1, 2)).get()  # error
    narrow: AsyncResult[str] = await add.send(1, 2)  # error
    print(text, narrow)


async def signatures() -> None:
    add.s("x", 1)  # error
    add.si(1)  # error
    wrong: Signature[str] = add.s(1, 2)  # error
    await add.s(1).send()  # error
    await queue.send_many([add.s(1)])  # error
    print(wrong)


async def canvas() -> None:
    print(fetch.s("u") | add.s(1))  # error in pyright
    chain(fetch.s("u"), add.s(1))  # error in pyright
    print(group([fetch.s("u")]) | add.s(1))  # error in pyright
    chord([fetch.s("u")])(total.s())  # error in pyright
    chord([add.s(1, 2)], total.s(), on_error="ignore")  # error
    await group([add.s(1)]).send()  # error
    await (add.s(1) | add.s(2)).send()  # error
    add.s(1, 2).set(colour=1)  # error
    text: list[str] = await (await group([add.s(1, 2)]).send()).get()  # error
    print(text)


@queue.task(bind=True)  # error
async def bound(a: int) -> None: ...


@queue.task(retry_backoff="fast")  # error
async def backed_off(a: int) -> None: ...
