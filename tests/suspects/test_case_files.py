"""A store that is away: tasks run without it, and are not held up by it."""

from __future__ import annotations

import logging
import random
from typing import Any, NoReturn, cast

import pytest

from asyncq._clock import system_environment
from asyncq._suspicion import Suspicion, suspicion_key
from asyncq.driver import Coordination, Delivery
from asyncq.errors import BackendConnectionError
from asyncq.protocol import Limits, TaskMessage
from asyncq.worker._attempt import Attempt, Surroundings
from asyncq.worker._backoff import Backoff
from asyncq.worker._case_files import CaseFiles
from asyncq.worker._conclusion import Conclusion


class Away:
    """A store that can't be reached, and counts who tries."""

    def __init__(self) -> None:
        self.calls = 0

    async def get(self, *_: Any) -> NoReturn:
        self.calls += 1
        raise BackendConnectionError("away")

    delete = put = get


class _Program:
    ignore_result = False
    soft_time_limit = time_limit = None


def _attempt() -> Attempt:
    surroundings = Surroundings("node@host", cast("Any", None), Limits(), {})
    message = TaskMessage(task="shop.work", id="id-1")
    return Attempt(Delivery("tag", "celery", b"", redelivered=True), message, cast("Any", _Program), surroundings)


async def test_nothing_is_known_while_the_store_is_away_and_nobody_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, attempt = Away(), _attempt()
    backoff = Backoff(random.Random(1))
    files = CaseFiles(cast("Coordination", store), backoff, system_environment().clock, node="node@host")
    with caplog.at_level(logging.WARNING):
        assert await files.read([attempt]) is None
        asked = store.calls
        for _ in range(100):
            assert await files.read([attempt]) is None
    assert asked == 1
    assert store.calls < 10
    assert len(caplog.records) == 1
    attempt.suspicion = Suspicion(deaths=["a crowd"])
    await files.end([Conclusion(attempt=attempt, state="SUCCESS")])  # says so, and goes on


def test_any_id_has_a_key() -> None:
    assert suspicion_key("4d-2") == "suspect.4d-2"
    for strange in ("ä", "x" * 2000, "", "a b", "\ud800"):
        assert len(suspicion_key(strange)) == len("suspect.") + 64
