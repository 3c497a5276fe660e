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
from chaos.scale import Scale
from chaos.trial import Figures, Places, Trial
from servers import RedisServer

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


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_f16_a_disk_without_room(
    tmp_path: Path, scale: Scale, kind: str, record_property: Callable[[str, object], None]
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
        program = [sys.executable, "-m", "chaos.full_store", kind, disk, tmp_path, json.dumps(scale)]
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
