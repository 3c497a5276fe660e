from __future__ import annotations

import pytest

from worker.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
