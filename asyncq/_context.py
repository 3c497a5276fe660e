"""What a running task can know of itself, and ask of its worker."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from asyncq._resources import Dependency, Lifespan
from asyncq.errors import ConfigurationError, Replace, Retry, Snooze
from asyncq.protocol import TaskMessage

__all__ = ["Context", "current_context"]


T = TypeVar("T")


class Described(Protocol):
    """A signature, of a task or a whole canvas."""

    def to_dict(self) -> dict[str, Any]: ...


class Attempt(Protocol):
    """The run that a context belongs to, as far as the task may steer it."""

    async def update_state(self, state: str, meta: Any) -> None: ...

    def headers(self) -> Mapping[str, Any]: ...

    def resource(self, lifespan: Lifespan[T]) -> T: ...

    async def use(self, dependency: Dependency[T], context: Context) -> T: ...

    async def add_to_chord(self, document: dict[str, Any]) -> None: ...


class Context:
    """A task's view of its own run. Injected into a first parameter that is annotated with it.

    ::

        @queue.task
        async def report(ctx: Context, ids: list[int]) -> None:
            await ctx.progress({"done": 0, "total": len(ids)})
            if not ready():
                raise ctx.retry(countdown=5)
    """

    __slots__ = ("_attempt", "children", "message", "node", "queue", "redelivered")

    def __init__(
        self,
        message: TaskMessage,
        *,
        attempt: Attempt | None,
        queue: str = "",
        node: str = "",
        redelivered: bool = False,
        children: list[Any] | None = None,
    ) -> None:
        self._attempt = attempt
        #: The message as it was decoded.
        self.message: TaskMessage = message
        #: Queue that it was received from.
        self.queue: str = queue
        #: Name of the worker, `<name>@<host>`.
        self.node: str = node
        #: The broker says that somebody may have begun this delivery before.
        self.redelivered: bool = redelivered
        #: Result tuples of what this run has sent (`results.md`, 6); they end up in its record.
        self.children: list[Any] = [] if children is None else children

    @classmethod
    def direct(cls, task: str = "") -> Context:
        """The context of a task that is called as a plain function, without a worker."""
        return cls(TaskMessage(task=task, id=""), attempt=None)

    def __repr__(self) -> str:
        return f"<Context {self.message.task}[{self.message.id}] attempt {self.message.retries + 1}>"

    @property
    def task_id(self) -> str:
        """The id that the result is stored under; the same through all retries. Empty when called directly."""
        return self.message.id

    @property
    def task_name(self) -> str:
        return self.message.task

    @property
    def retries(self) -> int:
        """Retries so far: 0 in the first attempt."""
        return self.message.retries

    @property
    def root_id(self) -> str | None:
        """Id of the first task of the workflow."""
        return self.message.root_id

    @property
    def parent_id(self) -> str | None:
        """Id of the task that sent this one."""
        return self.message.parent_id

    @property
    def called_directly(self) -> bool:
        """True when no worker runs it."""
        return self._attempt is None

    @property
    def headers(self) -> Mapping[str, Any]:
        """The sender's own headers."""
        return {} if self._attempt is None else self._attempt.headers()

    def retry(
        self,
        *,
        countdown: float | None = None,
        exc: Exception | None = None,
        max_retries: int | None = None,
        message: str | None = None,
    ) -> Exception:
        """Return the exception that ends this attempt and asks for another: `raise ctx.retry(countdown=5)`.

        `countdown` is in seconds; without it the task's own backoff decides. `max_retries` replaces the task's for
        this decision. When no retry is left, the task fails with `exc`, or with MaxRetriesExceededError. Called
        directly, without a worker, it is `exc` itself where there is one.
        """
        if self._attempt is None and exc is not None:
            return exc
        return Retry(message, exc, countdown=countdown, max_retries=max_retries)

    def __getitem__(self, lifespan: Lifespan[T]) -> T:
        """What a lifespan of the worker yielded: `ctx[pool]`.

        Raises LookupError when it isn't open: it was declared on another app, or nobody runs this task.
        """
        if self._attempt is None:
            raise LookupError(f"{lifespan!r} is not open: {self.task_name or 'the task'} was called without a worker")
        return self._attempt.resource(lifespan)

    async def use(self, dependency: Dependency[T]) -> T:
        """What a dependency yields, opened at the first use and closed when this run ends.

        Raises what it raises; LookupError when no worker runs this task.
        """
        if self._attempt is None:
            raise LookupError(f"{dependency!r} is not open: {self.task_name or 'the task'} was called without a worker")
        return await self._attempt.use(dependency, self)

    def snooze(self, seconds: float) -> Snooze:
        """Return the exception that puts the task aside for a while and uses no attempt: `raise ctx.snooze(60)`."""
        return Snooze(seconds)

    def replace(self, signature: Described) -> Replace:
        """Return the exception that has another signature take the task's place: `raise ctx.replace(other.s(1))`.

        The result of that one is this task's result, and whatever follows this task follows that one: callbacks, the
        rest of a chain, the body of a chord. Of a group it is the list of its members' results. The task fails when
        the signature is an empty chain, or is a member of a chord already.
        """
        return Replace(signature.to_dict())

    async def add_to_chord(self, signature: Described) -> None:
        """Send one more member of the chord whose header this task stands in; its result stands next to this one's.

        Raises ConfigurationError when this task is in no chord's header, or its result backend can't join chords.
        """
        if self._attempt is None:
            raise ConfigurationError(f"{self.task_name or 'the task'} was called without a worker, and is in no chord")
        await self._attempt.add_to_chord(signature.to_dict())

    async def update_state(self, state: str, meta: Any = None) -> None:
        """Store a state of your own, with `meta` for those who ask. Does nothing when called directly.

        Raises EncodeError when `meta` cannot be stored.
        """
        if self._attempt is not None:
            await self._attempt.update_state(state, meta)

    async def progress(self, meta: Any) -> None:
        """Store state PROGRESS with `meta`; whoever iterates over the AsyncResult sees it."""
        await self.update_state("PROGRESS", meta)


#: The context of the task that runs here: what it sends becomes its child. None outside of a task.
current_context: ContextVar[Context | None] = ContextVar("asyncq_context", default=None)
