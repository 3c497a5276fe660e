"""The network between workers and broker."""

from __future__ import annotations

from pathlib import Path

from chaos.proxy import Proxy
from chaos.scale import Scale
from chaos.trial import Places, Trial


async def test_f5_a_partition(tmp_path: Path, scale: Scale, places: Places, proxy: Proxy) -> None:
    """F5: for 30 s nothing arrives, and nobody is told."""
    async with Trial(tmp_path, scale, places, broker=proxy.url, backend=proxy.url) as trial:
        async with trial.fault("blackhole"):
            proxy.blackhole()
            await trial.endure()
            proxy.heal()
        report = await trial.finish()
    print(report)
    report.check(duplicates=trial.in_flight)
