"""Chords and chains under faults: each body is sent once, with all results in the order of its header."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from asyncq.driver import CLAIM_WHILE_SENDING
from asyncq.worker._chords import INTERVAL
from chaos.checker import MOST_SILENCE
from chaos.places import Places, on
from chaos.proxy import Proxy
from chaos.scale import LONG, Scale
from chaos.trial import BATCH, Figures, Trial
from chaos.workflows import Workflows
from servers import RabbitServer, RedisServer
from waiting import until

Server: TypeAlias = RedisServer | RabbitServer

#: Seconds until a killed worker has a successor, on a busy machine.
_REPLACED = 45.0

#: Seconds until a chord is ended whose worker died while it did: its claim must end, and somebody look for such chords.
_ENDED_BY_ANOTHER = CLAIM_WHILE_SENDING + 1.5 * INTERVAL


@pytest.fixture
def trial(tmp_path: Path, scale: Scale, places: Places) -> Trial:
    """Beside the workflows there are single tasks, so that there is always something that could end.

    Nothing comes back by itself while the test lasts: what comes twice was sent twice, or handed back.
    """
    # Few at a time in the short form: each that a killed worker leaves gets a process of its own, which takes a second.
    pause = scale.pause if scale is LONG else (0.02, 0.08)
    return Trial(tmp_path, scale._replace(rate=20, before=0.2, after=0.2, lease=300, pause=pause), places)


@pytest.fixture
def workflows(trial: Trial, scale: Scale, places: Places) -> Workflows:
    return Workflows(trial, places, rate=scale.rate)


@on("redis", "sqlite", soak=["rabbit"])
async def test_f1_workers_are_killed_in_the_midst_of_chords(
    trial: Trial, workflows: Workflows, scale: Scale, figures: Figures
) -> None:
    """F1: every 5 s a worker is killed, 6 times, while 200 chords of 50 are on their way.

    What it ran runs again, and no body is sent twice for that.
    """
    kills = _size(scale, 6, 1)
    async with trial:
        await _kill_during(workflows.send_chords(scale.times(200), _size(scale, 50, 15)), trial, kills)
        await workflows.end()
        report = await trial.finish()
    again = workflows.again()
    figures(report, trial, kills=kills, bodies_again=again.bodies, others_again=again.others)
    workflows.check(report, duplicates=kills * (scale.concurrency + BATCH), silence=_silence(scale))


@on("redis", soak=["sqlite", "rabbit"])
async def test_f1_workers_are_killed_in_the_midst_of_chains(
    trial: Trial, workflows: Workflows, scale: Scale, figures: Figures
) -> None:
    """F1: every 5 s a worker is killed, 6 times, while 200 chains of 50 steps are on their way.

    A step that had ended and runs again sends the next one again: the rest of its chain may run twice, side by side.
    """
    kills, length = _size(scale, 6, 1), _size(scale, 50, 10)
    async with trial:
        await _kill_during(workflows.send_chains(_size(scale, 200, 5), length), trial, kills)
        await workflows.end()
        report = await trial.finish()
    figures(report, trial, kills=kills, again=workflows.again().others)
    allowed = kills * (scale.concurrency + BATCH)
    workflows.check(report, duplicates=allowed * length, overlap=True, silence=_silence(scale))


@on("redis", soak=["own-rabbit"])
async def test_f3_the_broker_is_killed_in_the_midst_of_chords(
    trial: Trial, workflows: Workflows, scale: Scale, broker_server: Server, figures: Figures
) -> None:
    """F3: the broker, on Redis the results with it, is killed and away for 5 s while 200 chords of 50 are on their way.

    Who can't send a chord sends it again until it is accepted: a part of the first sending may be there already.
    """
    async with trial:
        async with asyncio.TaskGroup() as group:
            group.create_task(workflows.send_chords(scale.times(200), _size(scale, 50, 15)))
            await asyncio.sleep(_pause(scale))
            async with trial.fault("restart"):
                await asyncio.to_thread(broker_server.kill)
                await asyncio.sleep(_size(scale, 5, 1))
                await asyncio.to_thread(broker_server.start)
        await workflows.end()
        report = await trial.finish()
    again, refused = workflows.again(), trial.ledger.count("NACK")
    figures(report, trial, refused=refused, bodies_again=again.bodies, others_again=again.others)
    workflows.check(report, duplicates=trial.in_flight + refused, overlap=True, silence=_silence(scale))


@on(soak=["redis"])
async def test_f7_the_back_end_is_away_in_the_midst_of_chords(
    tmp_path: Path, scale: Scale, places: Places, proxy: Proxy, figures: Figures
) -> None:
    """F7: for 30 s nobody can store a result, hand in a part or open a chord; the broker is well."""
    trial = Trial(tmp_path, scale._replace(rate=20, before=0.2, after=0.2), places, backend=proxy.url)
    workflows = Workflows(trial, places, rate=scale.rate)
    async with trial:
        async with asyncio.TaskGroup() as group:
            group.create_task(workflows.send_chords(scale.times(200), _size(scale, 50, 15)))
            await asyncio.sleep(_pause(scale))
            async with trial.fault("no back end"):
                proxy.refuse()
                proxy.reset()
                await trial.endure()
                proxy.heal()
        await workflows.end()
        report = await trial.finish()
    again, refused = workflows.again(), trial.ledger.count("NACK")
    figures(report, trial, refused=refused, bodies_again=again.bodies, others_again=again.others)
    workflows.check(report, duplicates=refused, overlap=True, silence=_silence(scale))


@on("redis", soak=["sqlite", "rabbit"])
async def test_f9_header_tasks_are_published_again(
    trial: Trial, workflows: Workflows, scale: Scale, figures: Figures
) -> None:
    """F9: 5 % of the messages of 200 headers of 50 are published twice, half at once, half when all chords have ended.

    A header task counts once, and what comes late opens no chord again.
    """
    size = _size(scale, 50, 10)
    async with trial:
        await workflows.send_chords(scale.times(200), size, doubled=max(1, size // 40))
        await workflows.end()
        late = trial.dice.sample(list(workflows.members), len(workflows.members) // 40)
        for member in late:
            await workflows.send_again(member)
        await workflows.end()
        report = await trial.finish()
    again = workflows.again()
    figures(report, trial, bodies_again=again.bodies, others_again=again.others)
    doubled = scale.times(200) * max(1, size // 40) + len(late)
    assert again.bodies == 0
    assert again.others == doubled
    workflows.check(report, duplicates=doubled, overlap=True, silence=_silence(scale))


def _silence(scale: Scale) -> float:
    """Seconds without an END, when all that is left to end may be a body that nobody has sent yet."""
    return _ENDED_BY_ANOTHER + MOST_SILENCE * scale.slack


def _size(scale: Scale, full: int, short: int) -> int:
    return full if scale is LONG else short


def _pause(scale: Scale) -> float:
    """Seconds until the next fault."""
    return 5.0 if scale is LONG else 0.2


async def _kill_during(sends: Coroutine[Any, Any, None], trial: Trial, kills: int) -> None:
    """Kill so many workers, the one with most of the load each time, while something is sent; another one lives on."""
    async with asyncio.TaskGroup() as group:
        group.create_task(sends)
        for _ in range(kills):
            await asyncio.sleep(_pause(trial.scale))
            await until(lambda: len(trial.fleet.workers) > 1, timeout=_REPLACED)
            async with trial.fault("kill"):
                os.kill(await trial.busiest(), signal.SIGKILL)
