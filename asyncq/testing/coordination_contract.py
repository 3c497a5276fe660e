"""The contract of every `asyncq.driver.Coordination`, as tests. `asyncq.testing` says how to run them on a driver."""

from __future__ import annotations

from asyncq.testing._coordination_buckets import Buckets
from asyncq.testing._coordination_facts import Counters, Facts, Naming, Scanning
from asyncq.testing._coordination_kit import CoordinatingDriver, Freeze, MakeDriver, Restart
from asyncq.testing._coordination_lifecycle import CancellingCoordination, CoordinationLife

__all__ = ["CoordinatingDriver", "CoordinationContract", "Freeze", "MakeDriver", "Restart"]


class CoordinationContract(Facts, Counters, Scanning, Naming, Buckets, CancellingCoordination, CoordinationLife):
    """Inherit, override `make_driver`, and where the server can be stopped `restart` and `freeze`."""
