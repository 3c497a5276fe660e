"""`AsyncQ`: an app's tasks, settings and connections."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from asyncq._call import Call, SendOptions, call_options
from asyncq._canvas_sending import CanvasSender
from asyncq._celery_config import read_celery_config
from asyncq._client import Client, Clients
from asyncq._clock import system_environment
from asyncq._context import Context
from asyncq._declaration import Anything, DeclaredOptions, TaskDecorator, define, read_options
from asyncq._definition import TaskDefinition
from asyncq._drivers import BackendSource, BrokerSource, Drivers, is_reply_url
from asyncq._middleware import Middleware
from asyncq._outbox import Outbox
from asyncq._portal import Portal
from asyncq._producer import Producer
from asyncq._registry import TaskRegistry
from asyncq._resources import Dependency, Lifespan
from asyncq._result import AsyncResult, GroupResult, restored
from asyncq._result_reader import ResultReader
from asyncq._settings import Settings, SettingsOptions
from asyncq._settings_sources import load_settings
from asyncq._signature import Signature
from asyncq._task import AsyncTask, SyncTask, Task
from asyncq._working import WorkerOptions, worker_setup
from asyncq.canvas import read_node
from asyncq.driver import Broker, Queue, ResultBackend
from asyncq.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncq.worker import Worker, WorkerSetup

__all__ = ["AsyncQ"]

P = ParamSpec("P")
R = TypeVar("R")

# `Any` below: arguments and results of tasks that are known by name alone, and what a coroutine's type must say.


class AsyncQ:
    """An app: a name, tasks, settings, and the way to a broker and a result backend.

    ::

        queue = AsyncQ("shop")                                          # an embedded SQLite file
        queue = AsyncQ("shop", broker="redis://…", backend="redis://…")

        @queue.task
        async def fetch(url: str) -> int: ...

        result = await fetch.send("https://…")
    """

    def __init__(
        self,
        name: str,
        *,
        broker: BrokerSource | None = None,
        backend: BackendSource | None = None,
        exceptions: Sequence[type[Exception]] = (),
        middleware: Sequence[Middleware] = (),
        **settings: Unpack[SettingsOptions],
    ) -> None:
        """Nothing is connected before the first use.

        `broker` and `backend` are URLs, callables that make a driver, or drivers. `exceptions` are the app's own
        classes that `AsyncResult.get` may raise, and errbacks may get; any other becomes a RemoteTaskError. `settings`
        are asyncq's, or Celery's under their new names. What isn't given comes from `ASYNCQ_<NAME>` in the environment,
        then from `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND`, then from `config_from_object`, then from
        `REDIS_URL`.

        Raises TypeError for an unknown setting, ConfigurationError for a value that won't do.
        """
        self.name: str = name
        self._environment = system_environment()
        self._given: dict[str, Any] = {"broker": broker, "backend": backend, **settings}
        self._settings = load_settings(self._given)
        self._tasks = TaskRegistry()
        self._drivers = Drivers(name, self._environment)
        self._clients = Clients(
            lambda: Client(
                self.make_broker,
                self.make_backend,
                timeout=self._settings.network_timeout,
                wants_replies=is_reply_url(self._settings.backend),
            )
        )
        self._portal = Portal(name, self._clients.close_current)
        self._reader = ResultReader(self._clients, self._portal, exceptions, self._environment, self._settings)
        self._exceptions = tuple(exceptions)
        self._middleware = tuple(middleware)
        self._lifespans: list[Lifespan[Any]] = []
        self._outbox = Outbox(
            Producer(self._settings, self._environment),
            self._clients,
            self._portal,
            self._reader,
            self._middleware,
            clock=self._environment.clock,
        )
        self._sender = CanvasSender(
            self._outbox, self._clients, self._portal, self._reader, options_of=self._tasks.options_of
        )

    def __repr__(self) -> str:
        return f"<AsyncQ {self.name!r} of {len(self.tasks)} tasks>"

    # -- settings --------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings as they stand, all sources laid over each other."""
        return self._settings

    def config_from_object(self, source: object, *, namespace: str | None = None) -> None:
        """Take a Celery configuration: `queue.config_from_object("celeryconfig")`.

        `source` is a module, a mapping or another object with Celery's setting names, new or old, or the dotted name of
        one. With `namespace="CELERY"` names begin with `CELERY_`. Constructor and environment win over it; a later call
        replaces an earlier one.

        Settings that asyncq does not honour are named in a warning, and so are names that nobody knows. Raises
        ConfigurationError for a value that won't do, and once something was sent.
        """
        if self._clients.in_use:
            raise ConfigurationError("config_from_object comes before the first send")
        config = read_celery_config(source, namespace)
        settings = load_settings(self._given, config.values)
        self._outbox.producer = Producer(settings, self._environment)
        self._reader.configure(settings)
        self._settings = settings
        for warning in config.warnings():
            warnings.warn(warning, stacklevel=2)

    # -- tasks -----------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that were declared so far, by name."""
        return self._tasks.view

    @overload
    def task(  # pyright: ignore[reportOverlappingOverload]  # a coroutine function is a function too: first match
        self, fn: Callable[Concatenate[Anything, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[..., R]: ...
    @overload
    def task(  # pyright: ignore[reportOverlappingOverload]  # a coroutine function is a function too: first match
        self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Anything, P], R], /) -> SyncTask[..., R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[DeclaredOptions]) -> TaskDecorator: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Declare a task: `@queue.task`, or `@queue.task(max_retries=5, …)`.

        A first parameter that is annotated with `Context` gets the run's context and is no argument of the task.
        Raises TypeError for an option that isn't one, ConfigurationError for a name that is taken.
        """
        declared = read_options(options)

        def declare(fn: Callable[..., Any]) -> Task[..., Any]:
            definition = define(fn, declared)
            task = _make_task(definition, self._sender, self)
            self._tasks.add(task)
            return task

        return declare if fn is None else declare(fn)

    # -- what tasks need -------------------------------------------------------------------------------------

    def lifespan(self, function: Callable[[], AsyncIterator[R]], /) -> Lifespan[R]:
        """Declare what every worker opens when it starts and closes when it ends; tasks find it in their context.

        ::

            @queue.lifespan
            async def pool() -> AsyncIterator[Pool]:
                async with create_pool(…) as pool:
                    yield pool

            @queue.task
            async def report(ctx: Context) -> None:
                await ctx[pool].execute(…)

        They are opened in the order of their declaration; the worker doesn't start when one raises.
        """
        lifespan = Lifespan(function)
        self._lifespans.append(lifespan)
        return lifespan

    def dependency(self, function: Callable[[Context], AsyncIterator[R]], /) -> Dependency[R]:
        """Declare what a run opens when it first uses it, and closes when it ends: `await ctx.use(session)`.

        ::

            @queue.dependency
            async def session(ctx: Context) -> AsyncIterator[Session]:
                async with ctx[pool].session() as session:
                    yield session
        """
        return Dependency(function)

    # -- sending ---------------------------------------------------------------------------------------------

    async def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[Any]:
        """Send a call of a task by its name; it may be one that only other programs know.

        Raises what `Task.send` raises; TypeError and ValueError for options.
        """
        call = Call(name, args, kwargs or {}, call_options(**options), self._tasks.options_of(name))
        return await self._outbox.send(call)

    def send_task_sync(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[Any]:
        """`send_task` for sync code. Raises RuntimeError in a thread whose event loop runs."""
        call = Call(name, args, kwargs or {}, call_options(**options), self._tasks.options_of(name))
        return self._outbox.send_sync(call)

    async def send_many(self, signatures: Sequence[Signature[R]]) -> list[AsyncResult[R]]:
        """Send calls in one round trip: `await queue.send_many([fetch.s(url) for url in urls])`.

        Raises PublishError when the broker refused some, each with its position and reason; and what `Task.send`
        raises, before anything is sent. Chains, groups and chords among them make it as many round trips as they are.
        """
        return await self._sender.send_many([signature.node for signature in signatures])

    def signature(self, document: Mapping[str, Any]) -> Signature[Any]:
        """Read a signature of any kind from its dict, as `to_dict` or Celery wrote it. Raises SignatureError."""
        return Signature(read_node(document), self._sender)

    def result(self, task_id: str) -> AsyncResult[Any]:
        """A handle on the result of a task that was sent from anywhere."""
        return AsyncResult(task_id, self._reader)

    async def restore_group(self, group_id: str) -> GroupResult[Any] | None:
        """A handle on a group that was saved (`GroupResult.save`), here or by Celery; None where nothing is kept of it.

        Raises ConfigurationError where nothing can be kept, BackendError, DecodeError.
        """
        saved = await self._reader.saved_group(group_id)
        return None if saved is None else restored(saved, self._reader)

    # -- connections -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open nothing yet; on the way out what this event loop has opened is closed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running event loop's connections. The app can be used again afterwards."""
        await self._clients.close_current()

    def make_broker(self) -> Broker:
        """A broker as the settings say, not yet opened and the caller's own. Raises ConfigurationError."""
        return self._drivers.broker(self._settings)

    def make_backend(self) -> ResultBackend | None:
        """A result backend as the settings say, not yet opened and the caller's own; None where there is none.

        Raises ConfigurationError.
        """
        return self._drivers.backend(self._settings)

    # -- working ---------------------------------------------------------------------------------------------

    def queues(self, names: Sequence[str] | None = None) -> list[Queue]:
        """The queues of these names; without names those that a worker serves by default.

        They are the declared ones (`queues`, Celery's `task_queues`); where none are declared, the default queue and
        those that tasks of this app name. Raises ConfigurationError for a queue that isn't declared and may not be
        made up.
        """
        table = self._outbox.producer.queues
        if names is not None:
            return [table[name] for name in dict.fromkeys(names)]
        if table.declared:
            return list(table.declared.values())
        own = (task.definition.options.queue for task in self.tasks.values())
        return [table[name] for name in dict.fromkeys([table.default.name, *filter(None, own)])]

    def import_modules(self) -> None:
        """Import the modules that `include` and `imports` name, which declare tasks. Their errors pass through."""
        for module in self._settings.modules:
            importlib.import_module(module)

    def worker(self, **options: Unpack[WorkerOptions]) -> Worker:
        """A worker for this process: `async with queue.worker(concurrency=500): …`. It handles no signals.

        Imports the modules of `include` first. Raises TypeError, ConfigurationError.
        """
        from asyncq.worker import Worker

        self.import_modules()
        return Worker(self.worker_setup(**options))

    def worker_setup(self, **options: Unpack[WorkerOptions]) -> WorkerSetup:
        """What a worker of this app is told; its drivers are not yet opened. Raises TypeError, ConfigurationError."""
        return worker_setup(
            app=self.name,
            tasks={name: task.definition for name, task in self.tasks.items()},
            broker=self.make_broker(),
            backend=self.make_backend(),
            queues=self.queues(options.get("queues")),
            environment=self._environment,
            producer=self._outbox.producer,
            middleware=self._middleware,
            lifespans=self._lifespans,
            exceptions=self._exceptions,
            settings=self._settings,
            options=options,
        )

    async def run_worker(self, **options: Unpack[WorkerOptions]) -> None:
        """Run a worker until it ends, or until this call is cancelled. The options are those of `worker`."""
        await self.worker(**options).run()


def _make_task(definition: TaskDefinition, sender: CanvasSender, app: AsyncQ) -> Task[..., Any]:
    return (AsyncTask if definition.is_coroutine else SyncTask)(definition, sender, app)
