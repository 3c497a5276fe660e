"""Stores that are full: Redis without memory, disks without room under Redis and under SQLite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.full_store import check_full_store, fill_under_load
from chaos.places import Places, on
from chaos.scale import Scale
from chaos.trial import Figures, Trial
from servers import RabbitServer, RedisServer

#: Enters a file system of its own, in which "$1" is a disk of "$2" MiB, and runs the rest there.
_ON_SMALL_DISK = 'mount -t tmpfs -o "size=$2m" none "$1" && shift 2 && exec "$@"'
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


async def test_f16_redis_without_memory(
    tmp_path: Path, scale: Scale, server: RedisServer, places: Places, figures: Figures
) -> None:
    """F16: `maxmemory` falls below what is used, for 30 s.

    Sends raise BrokerFull at once; what was taken is finished, stored and settled, the rest is drained, leases are
    renewed: nothing runs twice. All goes on within 5 s.
    """
    trial = Trial(tmp_path, scale, places)
    report = await fill_under_load(
        trial,
        fill=lambda: server.command("CONFIG", "SET", "maxmemory", "1"),
        free=lambda: server.command("CONFIG", "SET", "maxmemory", "0"),
    )
    figures(report, trial)
    check_full_store(report)


#: What `rabbitmqctl` is told so that RabbitMQ has too little, and so that it has enough again.
_ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", str(1 << 60)), ("set_disk_free_limit", "50MB")),
}


@on("own-rabbit")
@pytest.mark.parametrize("alarm", ["memory", pytest.param("disk", marks=pytest.mark.soak)])
async def test_f16_an_alarm_of_rabbitmq(
    tmp_path: Path, scale: Scale, places: Places, alarm: str, broker_server: RabbitServer, figures: Figures
) -> None:
    """F16: RabbitMQ believes for 30 s that it has no memory, or no room on its disk, and reads nothing from senders.

    What it had not read by then may be stored later, or not: those sends raise BrokerConnectionError, all others
    BrokerFull. The rest is as above.
    """
    fill, free = _ALARMS[alarm]
    trial = Trial(tmp_path, scale, places)
    try:
        report = await fill_under_load(
            trial, fill=lambda: broker_server.control(*fill), free=lambda: broker_server.control(*free)
        )
    finally:
        broker_server.control(*free)
    figures(report, trial)
    check_full_store(report, unknown=True)


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_f16_a_disk_without_room(
    tmp_path: Path, scale: Scale, store: str, record_property: Callable[[str, object], None]
) -> None:
    """F16: the disk under the append-only file, or under the SQLite file, is full for 30 s.

    The bounds are those above, and the file stays whole. Redis refuses every write then, renewals too: what outlives
    its lease may run twice. The disk is one that only a namespace of its own may mount, with a program in it that does
    the experiment (`chaos.full_store`).
    """
    if shutil.which("unshare") is None or subprocess.run([*_UNSHARE, "true"], check=False).returncode:
        pytest.skip("no right to a mount namespace")
    size = 16 + round(scale.rate * (scale.before + scale.fault + scale.after) * 0.005)
    with tempfile.TemporaryDirectory(prefix="asyncq-disk-") as disk:  # a short name: a socket's has room for 107 bytes
        program = [sys.executable, "-m", "chaos.full_store", store, disk, tmp_path, json.dumps(scale)]
        done = subprocess.run(
            [*_UNSHARE, "sh", "-c", _ON_SMALL_DISK, "sh", disk, str(size), *program],
            env={**os.environ, "TMPDIR": disk, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    record_property("figures", done.stdout.strip())
