"""The suites that every driver must pass, asyncq's own and a third party's.

A driver's test file inherits a suite and says how to make instances:

    from asyncq.testing import system_environment
    from asyncq.testing.broker_contract import BrokerContract, MakeBroker

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        def make_broker(self, tmp_path: Path) -> MakeBroker:
            def make(*, timeout: float = 10.0) -> Broker:
                return MyBroker(DriverConfig(url=…, app="contract", environment=system_environment(), timeout=timeout))
            return make

`backend_contract` is the same for result backends (`make_backend`), `joining_contract` for those that join chords
(`make_backend`), `coordination_contract` for brokers and result backends that coordinate (`make_driver`).

Each call of the factory imitates a process of its own: a fresh, unopened instance on the same store. A store that can
be stopped overrides the fixtures `restart` and `freeze` too. The tests are coroutines: they need pytest-asyncio, with
`asyncio_mode = "auto"` or a `pytestmark = pytest.mark.asyncio` on the subclass. What a driver declares in its
capabilities decides which tests are skipped, and a skip names the capability.
"""

import pkgutil

import pytest

from asyncq._clock import system_environment

__all__ = ["system_environment"]

# Plain asserts in the suites then tell as much as those in a test file. It must be said before they are imported.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
