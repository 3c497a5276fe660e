"""Finds where the facts that workers and clients share are kept."""

from __future__ import annotations

from asyncq.driver import Broker, Coordinating, Coordination, ResultBackend


def coordination_of(backend: ResultBackend | None, broker: Broker) -> Coordination | None:
    """The backend's coordination, else the broker's; None when neither server can coordinate."""
    for driver in (backend, broker):
        if isinstance(driver, Coordinating):
            return driver.coordination
    return None
