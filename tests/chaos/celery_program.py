"""A real Celery worker that runs the standard load: `python -m chaos.celery_program CONFIG`.

It takes one task at a time, in its own process, and looks for lost messages ten times a second, whatever they cost it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready

from chaos.app import checksum
from chaos.ledger import Ledger


def main() -> None:
    config: dict[str, Any] = json.loads(sys.argv[1])
    ledger = Ledger(config["ledger"])

    def work(self: Task, pause: float, body: str) -> str:
        value = os.urandom(4).hex()
        ledger.write("START", self.request.id, checksum(pause, body))
        time.sleep(pause)
        ledger.write("EFFECT", self.request.id)
        ledger.write("END", self.request.id, f"success {value}")
        return value

    app = Celery("chaos", broker=config["url"], backend=config["url"])
    app.conf.update(
        task_acks_late=True,
        worker_pool="solo",
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        broker_transport_options={
            "visibility_timeout": config["visibility_timeout"],
            "unacked_restore_interval": 0.1,
            "unacked_restore_throttle": 1,
        },
    )
    app.task(work, name="chaos.work", bind=True)
    worker_ready.connect(lambda **_: os.write(1, b"ready\n"), weak=False)
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "--loglevel=WARNING", f"--hostname=celery-{os.getpid()}@%h", *alone])


if __name__ == "__main__":
    main()
