"""One experiment: workers, load, faults, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import redis
from msgspec import structs

from asyncq import AsyncQ
from asyncq.driver import Broker
from asyncq.protocol import WireMessage, decode_envelope
from chaos.aftermath import busiest, unfinished
from chaos.app import Settings, make_app
from chaos.checker import Evidence, Report, examine
from chaos.fleet import Fleet, Host
from chaos.gauges import resident
from chaos.ledger import Ledger
from chaos.load import Load, Reader
from chaos.places import Places
from chaos.scale import Scale
from chaos.trace import acknowledged_unstored
from chaos.wire import Wire
from waiting import until

#: Acknowledgements that may be under way together: added to the concurrency, what one loss of a worker may repeat.
BATCH = 100

#: Seconds until everything must have ended after a fault, before what has not is called lost.
_DRAIN = 120.0

_QUEUE = "celery"

#: Descriptors of the processes that suspects have had to themselves, which a worker keeps for others for minutes: what
#: has lost its connection twice is a suspect. There are four for each, and as many processes as quarantine has places,
#: and again as many for suspects that still run there though their connection is lost; and one more for all.
_FOR_SUSPECTS = 4 * 2 * max(2, os.cpu_count() or 1) + 1

#: asyncio tasks that the AMQP driver has for as long as it settles, gives back or opens a channel: who is asked what he
#: has open has just been asked, and settles.
_FOR_A_MOMENT = 3

#: Tasks that end before anything is measured.
_WARM_UP = 50


class Census(NamedTuple):
    """What a worker has open."""

    tasks: int
    descriptors: int
    #: Bytes of memory.
    resident: int


class Trial:
    """Workers that serve, a producer that sends, a reader that looks; all of it on record.

    ::

        async with Trial(tmp_path, scale, places, broker=through_the_proxy) as trial:
            async with trial.fault("blackhole"):
                proxy.blackhole()
                await trial.endure()
                proxy.heal()
            report = await trial.finish()
        report.check(duplicates=trial.in_flight)
    """

    def __init__(
        self,
        folder: Path,
        scale: Scale,
        places: Places,
        *,
        broker: str | None = None,
        backend: str | None = None,
        hosts: int = 1,
        processes: int = 2,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`broker` and `backend` are the URLs that workers and clients use, where these are not the places themselves.

        `more` are settings of asyncq, for all processes.
        """
        self.scale = scale
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.seed = random.getrandbits(32)
        self.dice = random.Random(self.seed)
        self.settings = Settings(
            broker=broker or places.broker,
            backend=backend or places.backend,
            ledger=str(self.ledger.path),
            lease=scale.lease,
            network_timeout=scale.network_timeout,
            more=dict(more or {}),
        )
        #: Starts that one loss of every worker's connection may repeat.
        self.in_flight = hosts * processes * (scale.concurrency + BATCH)
        self.app: AsyncQ = make_app(self.settings)
        self.load = Load(self.app, self.ledger, scale, self.dice)
        options = ("--concurrency", str(scale.concurrency), "--shutdown-timeout", f"{scale.shutdown_timeout:g}")
        self.fleet = Fleet(self.settings, *options, hosts=hosts, processes=processes)
        #: Hears what passes, where no server's own file tells it.
        self.wire: Wire | None = None
        #: What the workers had open before the load, and at the end.
        self.baseline: dict[int, Census] = {}
        self.final: dict[int, Census] = {}
        self._places = places
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start everything, and wait until the load has run for a while."""
        bare = AsyncQ("chaos", broker=self._places.broker, backend=self._places.backend)
        self.broker: Broker = bare.make_broker()
        backend = bare.make_backend()
        assert backend is not None
        self._backend = backend
        await self.broker.open()
        await backend.open()
        self.reader = Reader(backend, self.ledger)
        self._reading = asyncio.create_task(self.reader.run())
        # A look for garbage among all that pytest has loaded took 1.2 s on a busy machine, and sends as much longer.
        gc.freeze()
        try:
            await self.fleet.__aenter__()
            await self.load.send_burst(_WARM_UP)
            await until(lambda: self.ledger.count("END") >= _WARM_UP)
            self.baseline = await self.census()
            self.load.start()
            await asyncio.sleep(self.scale.before)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.unfreeze()
        self.fleet.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self.load.stop()
        await self.app.aclose()
        await self.broker.close()
        await self._backend.close()

    @asynccontextmanager
    async def fault(self, what: str) -> AsyncGenerator[None]:
        """What happens within stands in the ledger as a fault."""
        self.ledger.write("FAULT", "-", f"on {what}")
        try:
            yield
        finally:
            self.ledger.write("FAULT", "-", f"off {what}")

    async def endure(self) -> None:
        """Let the fault last."""
        await asyncio.sleep(self.scale.fault)

    async def busiest(self) -> int:
        """Pid of the worker that gets most of the load, while the load goes on."""
        pid = busiest(self.ledger.entries(), self.fleet.workers)
        await asyncio.sleep(0.5)  # to read a long ledger has held up the producer: all may have ended meanwhile
        return pid

    async def host_at_work(self) -> Host:
        """The host with most of the load, its workers stopped in the midst of tasks: what dies next loses something."""
        async with asyncio.timeout(_DRAIN):
            while True:
                victim = await self.busiest()
                [host] = [host for host in self.fleet.hosts if victim in host.workers]
                host.signal_workers(signal.SIGSTOP)
                if unfinished(self.ledger.entries(), host.workers):
                    return host
                host.signal_workers(signal.SIGCONT)

    async def send_past_the_proxy(self, task_id: str) -> None:
        """Send one task over a connection of its own, straight to where messages are."""
        settings = structs.replace(self.settings, broker=self._places.broker, backend=self._places.backend)
        async with make_app(settings) as app:
            await Load(app, self.ledger, self.scale, self.dice).send(task_id=task_id)

    async def census(self) -> dict[int, Census]:
        """By pid what each worker has open; they are asked until all have answered."""
        counted: dict[int, Census] = {}
        wanted = set(self.fleet.workers)
        async with asyncio.timeout(_DRAIN):
            while not counted.keys() >= wanted:
                answers = [await self.app.send_task("chaos.census") for _ in range(2 * len(wanted))]
                for answer in answers:
                    pid, tasks, files = await answer.get()
                    counted[pid] = Census(tasks, files, resident(pid))
        return counted

    def growth(self) -> Census:
        """By how much a worker has grown between the first load and the end, at most."""
        pairs = [(self.baseline[pid], self.final[pid]) for pid in self.baseline.keys() & self.final.keys()]
        return Census(*(max((after[i] - before[i] for before, after in pairs), default=0) for i in range(3)))

    def check_baseline(self) -> None:
        """Raise AssertionError where a worker has more tasks or descriptors than before the load."""
        growth = self.growth()
        rabbit = self._places.vhost is not None
        assert growth.tasks <= (_FOR_A_MOMENT if rabbit else 0), growth
        assert growth.descriptors <= (_FOR_SUSPECTS if rabbit else 0), growth

    async def drain(self) -> None:
        """Wait until all that was accepted has ended and nothing starts any more. Raises TimeoutError."""
        await until(self._is_drained, timeout=_DRAIN)
        await self._quiet()

    async def finish(self) -> Report:
        """Load for a while, then none; drain, stop the workers, compare."""
        await asyncio.sleep(self.scale.after)
        await self.load.stop()
        with contextlib.suppress(TimeoutError):  # the report says what is missing
            await self.drain()
        stuck = await self._left()
        tried = sorted(self.ledger.ids("TRY"))
        results, dead = await self.reader.results(tried), await self.dead()
        with contextlib.suppress(TimeoutError):
            self.final = await self.census()
        exit_codes = await self.fleet.stop()
        evidence = Evidence(
            records=self.ledger.entries(),
            results=results,
            dead=dead,
            stuck=stuck,
            unstored=self._unstored() - dead,
            exit_codes=exit_codes,
            ignored=() if self.load.task == "chaos.work" else tried,
        )
        return examine(evidence, context=f"ledger and logs: {self.folder}; seed: {self.seed}")

    def _unstored(self) -> set[str]:
        """Tasks that were acknowledged before they were stored."""
        if self.wire is not None:
            return self.wire.acknowledged_unstored()
        return set() if self._places.trace is None else set(acknowledged_unstored(self._places.trace))

    async def _is_drained(self) -> bool:
        ends = self.ledger.entries("END")
        succeeded = {record.task_id for record in ends if record.detail.startswith("success")}
        missing = self.ledger.ids("ACK") - succeeded
        if missing and missing - await self.dead():
            return False
        return not any((await self._stuck()).values())

    async def _quiet(self) -> None:
        """Wait until nothing has started for a while: a duplicate may come late."""

        def latest() -> float:
            return max(record.monotonic for record in self.ledger.entries("START"))

        await until(lambda: time.monotonic() - latest() > self.scale.quiet, timeout=_DRAIN)

    async def dead(self) -> set[str]:
        """Ids of what is in the dead letters."""
        letters = await self.broker.peek(_QUEUE, "dead", limit=10_000)
        return {_task_id(letter.content) for letter in letters}

    async def held(self) -> int:
        """Messages that workers have and have not settled, by the broker's own count."""
        if self._places.vhost is None:
            return (await self.broker.depth(_QUEUE)).in_flight or 0
        counts = await asyncio.to_thread(self._places.vhost.counts)
        return counts[_QUEUE].unacknowledged

    async def _left(self) -> dict[str, int]:
        """What is stuck in the end. What RabbitMQ alone knows of is too slow a look for all the time until then."""
        stuck = await self._stuck()
        vhost = self._places.vhost
        if vhost is None:
            return stuck

        async def nothing_left() -> bool:
            counts = await asyncio.to_thread(vhost.counts)
            left = {name: sum(count) for name, count in counts.items() if name != f"{_QUEUE}.dead"}
            stuck.update(left)
            return not any(left.values())

        with contextlib.suppress(TimeoutError):
            await until(nothing_left, timeout=_DRAIN)
        return stuck

    async def _stuck(self) -> dict[str, int]:
        depth = await self.broker.depth(_QUEUE)
        stuck = {"ready": depth.ready, "in flight": depth.in_flight or 0, "parked": depth.parked or 0}
        if self._places.broker.startswith("redis"):
            with redis.Redis.from_url(self._places.broker) as client:
                stuck["unacked"] = int(client.hlen("unacked"))  # type: ignore[arg-type]  # sync, whatever its types say
                stuck["unacked_index"] = int(client.zcard("unacked_index"))  # type: ignore[arg-type]
                stuck["leases"] = int(client.zcard("asyncq.leases"))  # type: ignore[arg-type]
        return stuck


def _task_id(content: bytes | WireMessage) -> str:
    message = decode_envelope(content) if isinstance(content, bytes) else content
    return str(message.headers.get("id"))


class Figures(Protocol):
    """Says what a row has measured; the fixture `figures`."""

    def __call__(self, report: Report, trial: Trial, **more: float) -> None: ...
