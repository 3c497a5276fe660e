"""Faults at SQS's pace: the rows that a broker with leases must stand, on moto, with workers of their own processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import cycle
from pathlib import Path

import pytest

from asyncq._clock import new_id
from asyncq.driver import Publication
from asyncq.protocol import WireMessage, read_dead_letter
from aws.moto_server import MotoServer
from chaos.aftermath import begun_again, never_begun_again, unfinished
from chaos.places import Places
from chaos.proxy import Proxy
from chaos.scale import SHORT, Scale
from chaos.trial import BATCH, Trial
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: moto stands some 30 tasks a second.
PACE: Scale = SHORT._replace(rate=6, before=2, after=2, concurrency=10, lease=10, network_timeout=5, pause=(0.2, 1.0))

#: Seconds for F1. What a dead process ran is begun again before its lease ends, which may take a busy machine a while:
#: another process starts, and one for the suspect's quarantine.
_LEASE, _HANDED_BACK = 60.0, 45.0

#: Seconds in which nothing ends, while processes start.
_SILENCE = 60.0


@pytest.fixture
def places(moto: MotoServer) -> Places:
    return Places(broker=moto.sqs_url, backend=_backend(moto.port))


def _backend(port: int) -> str:
    return f"dynamodb://testing:testing@127.0.0.1:{port}/chaos-{new_id()[:8]}"


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues of its own for each test: moto keeps them by region."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", next(_regions))


_regions = cycle(("eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-north-1", "eu-south-1", "sa-east-1"))

#: Long polls that end soon: moto goes on with one whose client is dead, and takes a message for nobody.
MORE = {"broker_transport_options": {"wait_time_seconds": 0, "polling_interval": 0.1}}


async def test_f1_children_are_killed(tmp_path: Path, places: Places) -> None:
    """What ran in a child that was killed is begun again at once, not after a lease, and nothing is lost."""
    trial = Trial(tmp_path, PACE._replace(lease=_LEASE), places, more=MORE)
    async with trial:
        victim = trial.dice.choice(sorted(trial.fleet.workers))
        await until(lambda: bool(unfinished(trial.ledger.entries(), {victim})))
        async with trial.fault("kill"):
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
        await until(lambda: not never_begun_again(trial.ledger.entries(), {victim}), timeout=_LEASE)
        report = await trial.finish()
    again = begun_again(report.records, {victim}, killed)
    print(report, again)
    report.check(duplicates=PACE.concurrency + BATCH, silence=_SILENCE)
    assert again
    assert max(again) < _HANDED_BACK


async def test_f2_a_host_is_told_to_stop(tmp_path: Path, places: Places) -> None:
    """It exits with 0; what it had begun ends there or is handed back, and nothing is lost or held."""
    trial = Trial(tmp_path, PACE, places, hosts=2, processes=1, more=MORE)
    async with trial:
        host = trial.fleet.hosts[0]
        began = time.monotonic()
        async with trial.fault("SIGTERM"):
            host.send_signal(signal.SIGTERM)
            assert await host.wait() == 0
        assert time.monotonic() - began < PACE.shutdown_timeout + 2 * PACE.slack
        report = await trial.finish()
    print(report)
    report.check(duplicates=0, silence=_SILENCE)


async def test_f7_the_result_backend_is_away(tmp_path: Path, places: Places, moto: MotoServer) -> None:
    """Tasks wait to be concluded; none is acknowledged before its result is stored, and it goes on by itself."""
    async with Proxy(moto.port) as proxy:
        table = places.backend.rpartition("/")[2]
        behind = f"dynamodb://testing:testing@127.0.0.1:{proxy.port}/{table}"
        trial = Trial(tmp_path, PACE, places, backend=behind, more=MORE)
        async with trial:
            async with trial.fault("no back end"):
                proxy.blackhole()
                await asyncio.sleep(PACE.fault)
                proxy.heal()
            report = await trial.finish()
    print(report)
    report.check(duplicates=trial.in_flight, silence=_SILENCE)


async def test_f9_messages_are_sent_again(tmp_path: Path, places: Places) -> None:
    """Nothing runs more often than it was sent, and the first success stays."""
    trial = Trial(tmp_path, PACE, places, more=MORE)
    async with trial:
        doubled = [await trial.load.send() for _ in range(3)]
        for task_id in doubled:
            await trial.load.publish(task_id)
        report = await trial.finish()
    print(report)
    report.check(duplicates=len(doubled), overlap=True, silence=_SILENCE)
    assert max(trial.ledger.runs("START").values()) <= 2


async def test_f11_messages_that_nobody_can_run(tmp_path: Path, places: Places) -> None:
    """They are in the dead letters with their reason, byte for byte, and everything else runs."""
    trial = Trial(tmp_path, PACE, places, more={**MORE, "unknown_task_timeout": 1})
    garbage = [b"garbage 0", b"garbage 1"]
    async with trial:
        for body in garbage:
            message = WireMessage(body=body, headers={"id": "-", "task": "chaos.work"})
            await trial.broker.publish([Publication(message=message, queue="celery")])
            await trial.app.send_task("chaos.nobody_knows_this")
        deadline = time.monotonic() + 60
        letters = await trial.broker.peek("celery", "dead")
        while len(letters) < 4 and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            letters = await trial.broker.peek("celery", "dead")
        found = [read_dead_letter(each.content) for each in letters]
        report = await trial.finish()
    print(report)
    report.check(duplicates=0, silence=_SILENCE)
    reasons = sorted((each.reason or "").split()[0].rstrip(":") for each in found)
    assert reasons == ["undecodable", "undecodable", "unknown", "unknown"]


@pytest.mark.soak  # 36 s, of which it waits most
async def test_f11_a_task_that_kills_its_process(tmp_path: Path, places: Places) -> None:
    """It is in the dead letters after five kills at most, convicted through DynamoDB, and no innocent is."""
    trial = Trial(tmp_path, PACE, places, more=MORE)
    async with trial:
        async with trial.fault("poison"):
            deadly = await trial.app.send_task("chaos.dies", ["exit"])
            deadline = time.monotonic() + 150
            while not await trial.dead() and time.monotonic() < deadline:
                await asyncio.sleep(1)
        report = await trial.finish()
        dead = await trial.dead()
        kills = trial.ledger.runs("PERIL")
    print(report, kills)
    report.check(duplicates=2 * (PACE.concurrency + BATCH), silence=_SILENCE)
    assert dead == {deadly.id}
    assert kills[deadly.id] <= 5
