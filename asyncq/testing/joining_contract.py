"""The contract of every `asyncq.driver.Chords`, as tests. `asyncq.testing` says how to run them on a driver."""

from __future__ import annotations

from asyncq.testing._backend_kit import Freeze, Restart
from asyncq.testing._joining_claims import Claiming, Closing
from asyncq.testing._joining_counting import Counting, Ordering
from asyncq.testing._joining_kit import JoiningBackend, MakeBackend
from asyncq.testing._joining_lifecycle import CancellingJoining, JoiningLife

__all__ = ["Freeze", "JoiningBackend", "JoiningContract", "MakeBackend", "Restart"]


class JoiningContract(Counting, Ordering, Claiming, Closing, CancellingJoining, JoiningLife):
    """Inherit, override `make_backend`, and where the server can be stopped `restart` and `freeze`."""
