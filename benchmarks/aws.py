"""Requests to SQS and DynamoDB per task, asyncq's and Celery's, counted before one moto: `python -m benchmarks.aws`.

AWS bills by request. moto stands in an environment of its own (scripts/moto.sh).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from asyncq import AsyncQ

ROOT = Path(__file__).parent.parent
MOTO = ROOT / ".venv-moto" / "bin" / "moto_server"

#: Dollars per million requests: SQS standard queues; DynamoDB on demand, by write and by (eventually consistent) read.
SQS_PRICE, WRITE_PRICE, READ_PRICE = 0.40, 0.625, 0.0625

Counts = Counter[str]


class CountingProxy:
    """Hands requests on to moto, and counts them by action."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.counts: Counts = Counter()
        self.port = free_port()

    async def handle(self, request: web.Request) -> web.Response:
        target = request.headers.get("X-Amz-Target", "")
        service = "DynamoDB" if target.startswith("DynamoDB") else "SQS"
        self.counts[f"{service} {target.rpartition('.')[2]}"] += 1
        body = await request.read()
        async with self._session.request(
            request.method, self._target + request.path_qs, headers=request.headers, data=body
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() in _KEPT}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60), auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            try:
                yield
            finally:
                await runner.cleanup()


_KEPT = {"content-type", "x-amzn-requestid", "x-amz-crc32"}


async def measure_asyncq(proxy: CountingProxy, tasks: int, idle: float) -> dict[str, Counts]:
    queue = AsyncQ("bench", broker=_sqs(proxy, "asyncq"), backend=_dynamodb(proxy), **_options("asyncq"))

    @queue.task(name="bench.noop")
    async def noop(number: int) -> int:
        return number

    async with queue:
        await noop.send(-1)  # makes the queue
        phases: dict[str, Counts] = {}
        before = proxy.counts.copy()
        await queue.send_many([noop.s(number) for number in range(tasks)])
        phases["send"] = proxy.counts - before
        before = proxy.counts.copy()
        async with queue.worker() as worker:
            await _until(lambda: worker.stats.succeeded > tasks)
            await asyncio.sleep(1)  # the last acknowledgements
            phases["work"] = proxy.counts - before
            before = proxy.counts.copy()
            await asyncio.sleep(idle)
            phases["idle"] = proxy.counts - before
    return phases


async def measure_celery(proxy: CountingProxy, tasks: int, idle: float) -> dict[str, Counts]:
    program = [sys.executable, "-m", "benchmarks.apps.celery_aws", _sqs(proxy, "celery"), _dynamodb(proxy)]
    phases: dict[str, Counts] = {}
    before = proxy.counts.copy()
    sender = await asyncio.create_subprocess_exec(*program, "send", str(tasks), cwd=ROOT)
    assert await sender.wait() == 0
    phases["send"] = proxy.counts - before
    before = proxy.counts.copy()
    worker = await asyncio.create_subprocess_exec(*program, "work", cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)
    try:
        await _until(lambda: (proxy.counts - before)["SQS DeleteMessage"] >= tasks)
        phases["work"] = proxy.counts - before
        before = proxy.counts.copy()
        await asyncio.sleep(idle)
        phases["idle"] = proxy.counts - before
    finally:
        worker.terminate()
        await worker.wait()
    return phases


async def main(tasks: int, idle: float) -> None:
    port = free_port()
    moto = subprocess.Popen(  # noqa: ASYNC220 - once, before anything runs
        [str(MOTO), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        proxy = CountingProxy(f"http://127.0.0.1:{port}")
        async with proxy.serving():
            await _until_open(port)
            print(f"| {tasks} tasks | SQS a task | DynamoDB a task | idle SQS a minute | SQS, $ a million tasks |")
            print("|---|---|---|---|---|")
            measurements: dict[str, Callable[[CountingProxy, int, float], Awaitable[dict[str, Counts]]]] = {
                "asyncq": measure_asyncq,
                "Celery": measure_celery,
            }
            for name, measured in measurements.items():
                phases = await measured(proxy, tasks, idle)
                both = phases["send"] + phases["work"]
                sqs, dynamodb = _of(both, "SQS") / tasks, _of(both, "DynamoDB") / tasks
                minute = _of(phases["idle"], "SQS") * 60 / idle
                print(f"| {name} | {sqs:.2f} | {dynamodb:.2f} | {minute:.1f} | {sqs * SQS_PRICE:.2f} |", flush=True)
                for phase, counts in phases.items():
                    print(f"<!-- {name} {phase}: {dict(counts)} -->")
    finally:
        moto.kill()
        moto.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _of(counts: Counts, service: str) -> int:
    return sum(number for action, number in counts.items() if action.startswith(service))


def _sqs(proxy: CountingProxy, name: str) -> str:
    return f"sqs://{name}:secret@127.0.0.1:{proxy.port}"


def _dynamodb(proxy: CountingProxy) -> str:
    return f"dynamodb://bench:secret@127.0.0.1:{proxy.port}/bench"


def _options(name: str) -> dict[str, dict[str, str]]:
    return {"broker_transport_options": {"region": "us-east-1", "queue_name_prefix": f"{name}-"}}


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 300
    while not done():
        assert time.perf_counter() < deadline, "not done in five minutes"
        await asyncio.sleep(0.05)


async def _until_open(port: int) -> None:
    deadline = time.perf_counter() + 60
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert time.perf_counter() < deadline, "moto does not answer"
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aws", description=__doc__)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to watch an idle queue (default: 60)")
    arguments = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    asyncio.run(main(arguments.tasks, arguments.idle))
