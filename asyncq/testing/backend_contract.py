"""The contract of every `asyncq.driver.ResultBackend`, as tests. `asyncq.testing` says how to run them on a driver."""

from __future__ import annotations

from asyncq.testing._backend_kit import Freeze, MakeBackend, Restart, Subscriptions
from asyncq.testing._backend_lifecycle import BackendLife
from asyncq.testing._backend_records import CancellingBackend, Records
from asyncq.testing._backend_watching import LeavingNothingBehind, Watching

__all__ = ["BackendContract", "Freeze", "MakeBackend", "Restart", "Subscriptions"]


class BackendContract(Records, CancellingBackend, Watching, LeavingNothingBehind, BackendLife):
    """Inherit, override `make_backend`, and where the driver can: `restart`, `freeze` and `subscriptions`."""
