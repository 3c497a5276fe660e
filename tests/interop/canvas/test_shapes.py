"""Each canvas comes to what Celery alone makes of it, whoever of the two sends it, and whoever runs it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from interop.canvas.differences import DIFFERENCES, expected_of
from interop.canvas.fleet import ALONE, WAYS, Fleet, Way
from interop.canvas.outcomes import Outcome, Trace, Tree, shares, traces
from interop.canvas.shapes import SHAPES
from interop.canvas.tasks import Notes
from redis_kit import Client

pytestmark = pytest.mark.interop

# `Any` below: outcomes, as JSON has them.

#: Seconds until all canvases have ended: alone on the machine they take ten, and where all else is busy ten times that.
_PATIENCE = 180.0

#: Seconds between two looks at all of them, which is work.
_LOOK = 1.0


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(url: str, request: pytest.FixtureRequest) -> str:
    """Where messages go; results are on Redis."""
    return url if request.param == "redis" else request.getfixturevalue("rabbit").url()


@pytest.mark.slow
@pytest.mark.timeout(3 * _PATIENCE)
async def test_each_canvas_comes_to_what_celery_alone_makes_of_it(broker: str, url: str, redis: Client) -> None:
    fleet = Fleet(broker, url, Notes(redis, "asyncq"))
    async with fleet.clients():
        async with fleet.workers():
            sent = await fleet.send()
            await _settled(fleet, redis, sent[str(ALONE)])
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await _all_as_expected(redis, sent)
        assert await fleet.left() == {}
        values = await fleet.values()
    for way in WAYS:
        shared = shares(redis, sent[str(way)])
        assert shared.keys() == {*way.workers}
        assert min(shared.values()) >= shared.total() // len(way.workers) * 0.8
    found = {way: _outcomes(traces(redis, trees), values[way]) for way, trees in sent.items()}
    reference = found.pop(str(ALONE))
    wrong = {
        f"{way}: {name}": _difference(found[str(way)][name], expected)
        for way in WAYS
        for name, expected in _expected(reference, way).items()
        if found[str(way)][name] not in expected
    }
    assert wrong == {}, json.dumps(wrong, indent=2)


def test_there_are_canvases_of_all_kinds() -> None:
    assert len(SHAPES) >= 60
    assert DIFFERENCES.keys() <= SHAPES.keys()


def test_the_docs_give_a_reason_for_each_difference() -> None:
    page = (Path(__file__).parents[3] / "docs" / "celery.md").read_text()
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in page.splitlines() if line.startswith("|")]
    reasons = {row[0]: row[-1] for row in rows if len(row) == 4}
    assert {each.reason for each in DIFFERENCES.values() if not reasons.get(each.reason)} == set()


async def _settled(fleet: Fleet, redis: Client, trees: Mapping[str, Tree]) -> None:
    """Wait until nothing is left for Celery alone: its worker runs one task after the other, and finds none."""
    before = None
    while (tasks := _tasks(redis, trees)) != before:
        before = tasks
        await fleet.pass_through_celery()


async def _all_as_expected(redis: Client, sent: Mapping[str, Mapping[str, Tree]]) -> None:
    """Wait until all others have done what they are expected to."""
    reference = _outcomes(traces(redis, sent[str(ALONE)]))
    for way in WAYS:
        expected = _expected(reference, way)
        trees = {name: sent[str(way)][name] for name in expected}
        while not _are_done(traces(redis, trees), expected):
            await asyncio.sleep(_LOOK)


def _are_done(left: Mapping[str, Trace], expected: Mapping[str, Sequence[Outcome]]) -> bool:
    """Whether all tasks are as expected, whatever their client makes of it."""
    return all(trace.tasks() in [outcome.tasks for outcome in expected[name]] for name, trace in left.items())


def _expected(reference: Mapping[str, Outcome], way: Way) -> dict[str, Sequence[Outcome]]:
    """All that each canvas may come to; without those of which nothing is expected."""
    expected = {name: expected_of(name, outcome, way.client, way.workers) for name, outcome in reference.items()}
    return {name: outcomes for name, outcomes in expected.items() if outcomes is not None}


def _tasks(redis: Client, trees: Mapping[str, Tree]) -> list[Any]:
    return [trace.tasks() for trace in traces(redis, trees).values()]


def _outcomes(left: Mapping[str, Trace], values: Mapping[str, Any] | None = None) -> dict[str, Outcome]:
    return {name: trace.outcome(None if values is None else values[name]) for name, trace in left.items()}


def _difference(found: Outcome, expected: Sequence[Outcome]) -> list[Any]:
    """To the first that was expected."""
    tasks, others = found.tasks, expected[0].tasks
    return [
        {"value": found.value, "instead of": expected[0].value},
        *({"too many": each} for each in tasks if each not in others),
        *({"missing": each} for each in others if each not in tasks),
    ]
