"""The contract of every `asyncq.driver.Broker`, as tests. `asyncq.testing` says how to run them on a driver."""

from __future__ import annotations

from asyncq.testing._broker_cancellation import Cancelling
from asyncq.testing._broker_delivery import Delivering, Waiting
from asyncq.testing._broker_kit import Freeze, MakeBroker, Restart
from asyncq.testing._broker_leases import Leases, Releases
from asyncq.testing._broker_lifecycle import Closing, Frozen, Restarting
from asyncq.testing._broker_operating import Operating
from asyncq.testing._broker_ordering import Ordering
from asyncq.testing._broker_parking import Parking
from asyncq.testing._broker_settling import DeadLetters, Settling

__all__ = ["BrokerContract", "Freeze", "MakeBroker", "Restart"]


class BrokerContract(
    Delivering,
    Waiting,
    Settling,
    DeadLetters,
    Leases,
    Releases,
    Parking,
    Ordering,
    Operating,
    Cancelling,
    Closing,
    Restarting,
    Frozen,
):
    """Inherit, override `make_broker`, and where the server can be stopped `restart` and `freeze`."""
