from __future__ import annotations

import logging

import pytest


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for what other processes did come once a minute instead of each second: an idle day costs 0.3 s then.

    What falls due is told by the store itself, and comes as punctually as ever.
    """
    monkeypatch.setattr("asyncq_brokers.memory._store.HOUSEKEEPING", 60.0)
    monkeypatch.setattr("asyncq.worker._revoker.INTERVAL", 60.0)
    monkeypatch.setattr("asyncq.worker._chords.INTERVAL", 60.0)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of runs in one test: nobody would read their log, and to write it takes as long as they do."""
    caplog.set_level(logging.CRITICAL, logger="asyncq")


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same each five seconds, which is half a lease of the scenarios."""
    monkeypatch.setattr("asyncq_brokers.memory._store.HOUSEKEEPING", 5.0)
    monkeypatch.setattr("asyncq.worker._revoker.INTERVAL", 5.0)
