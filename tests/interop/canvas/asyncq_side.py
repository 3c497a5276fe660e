"""asyncq's client and worker, as they write, send, run and await canvases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from asyncq import AsyncQ, Context, Ignore, Middleware, ResultTimeout, Signature, chain, chord, group
from interop.canvas.outcomes import ENDLESS, NEVER, Tree, tree_of
from interop.canvas.shapes import SHAPES
from interop.canvas.tasks import TASKS, Notes, errbacks
from waiting import PATIENCE

# `Any` below: arguments and results of tasks, whatever they are.


class Noting(Middleware):
    """Makes a note of each run."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def run(self, ctx: Context, forward: Callable[[], Awaitable[Any]]) -> Any:
        message = ctx.message
        root = message.root_id or message.id
        self._notes.ran(message.id, root, message.task, message.args, message.kwargs, message.stamps)
        return await forward()


def declare_tasks(app: AsyncQ, notes: Notes) -> None:
    """The tasks that a Celery worker has, too."""
    for fn in (*TASKS, *errbacks(notes)):
        app.task(name=fn.__name__)(fn)

    @app.task(name="bound")
    async def bound(ctx: Context, *args: Any) -> None: ...

    @app.task(name="retry")
    async def retry(ctx: Context, *args: Any) -> list[Any]:
        if not ctx.retries:
            raise ctx.retry(countdown=0)
        return [*args]

    @app.task(name="ignore")
    async def ignore(ctx: Context, *args: Any) -> None:
        raise Ignore

    @app.task(name="replace")
    async def replace(ctx: Context, document: dict[str, Any]) -> Any:
        raise ctx.replace(app.signature(document))

    @app.task(name="grow")
    async def grow(ctx: Context, document: dict[str, Any]) -> int:
        await ctx.add_to_chord(app.signature(document))
        return 1

    @app.task(name="spawn")
    async def spawn(ctx: Context, document: dict[str, Any]) -> None:
        await app.signature(document).send()


class AsyncqLanguage:
    """Canvases as asyncq's users write them."""

    def __init__(self, app: AsyncQ) -> None:
        self._app = app

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, immutable: bool) -> Any:
        task = self._app.tasks[name]
        return (task.si if immutable else task.s)(*args, **kwargs)

    def chain(self, *steps: Any) -> Any:
        return chain(*steps)

    def group(self, members: Sequence[Any]) -> Any:
        return group(members)

    def chord(self, header: Sequence[Any], body: Any) -> Any:
        return chord(header, body)

    def map(self, name: str, items: Sequence[Any]) -> Any:
        return self._app.tasks[name].map(items)

    def starmap(self, name: str, items: Sequence[Any]) -> Any:
        return self._app.tasks[name].starmap(items)

    def chunks(self, name: str, items: Sequence[Any], size: int) -> Any:
        return self._app.tasks[name].chunks(items, size)

    def document(self, signature: Signature[Any]) -> dict[str, Any]:
        return signature.to_dict()


class AsyncqSender:
    """Sends all canvases through one app."""

    def __init__(self, app: AsyncQ) -> None:
        self._app = app
        self._handles: dict[str, Any] = {}

    async def send(self) -> dict[str, Tree]:
        """By name, where the results are found."""
        language = AsyncqLanguage(self._app)
        self._handles = {name: await shape.spell(language).send() for name, shape in SHAPES.items()}
        return {name: tree_of(handle) for name, handle in self._handles.items()}

    async def values(self) -> dict[str, Any]:
        """What `get()` comes to."""
        return {name: await _value_of(handle) for name, handle in self._handles.items()}


async def _value_of(handle: Any) -> Any:
    state = await handle.state()
    try:
        return await handle.get(PATIENCE if state.ready else ENDLESS)
    except ResultTimeout:
        return NEVER
    except Exception as error:
        return [type(error).__name__, error.args]
