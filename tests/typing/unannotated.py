"""A first parameter without an annotation accepts anything: such a task is not checked, instead of checked wrongly."""

# pyright: basic
# mypy: allow-untyped-defs, allow-untyped-calls

from asyncq import AsyncQ

queue = AsyncQ("shop")


@queue.task
async def add(a, b):
    return a + b


@queue.task(name="shop.sub")
def sub(a, b):
    return a - b


async def sends() -> None:
    await add.send(1, 2)
    await sub.send(1, b=2)
    await add(1, 2)
