"""Celery on SQS and DynamoDB: `python -m benchmarks.apps.celery_aws BROKER BACKEND send N`, or `work`."""

from __future__ import annotations

import sys

from celery import Celery

broker, backend, role = sys.argv[1:4]
app = Celery("bench", broker=broker, backend=backend)
app.conf.update(
    broker_transport_options={"region": "us-east-1", "queue_name_prefix": "celery-"},
    worker_hijack_root_logger=False,
)


@app.task(name="bench.noop")
def noop(number: int) -> int:
    return number


if role == "send":
    for number in range(int(sys.argv[4])):
        noop.delay(number)
else:
    app.worker_main(["worker", "--pool=threads", "--concurrency=8", "--loglevel=ERROR", "--without-heartbeat"])
