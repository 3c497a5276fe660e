"""The application on taskiq-aio-pika, which always waits for confirms."""

from __future__ import annotations

from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

from . import environment
from .sender import Sender
from .taskiq_sender import TaskiqSender

#: A classic queue, as the other libraries' are; its own default is a quorum queue. As many messages out as may run.
broker = AioPikaBroker(
    environment.URL,
    qos=100,
    task_queues=[Queue(name="taskiq", type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name="taskiq.dead_letter", type=QueueType.CLASSIC),
)
_sender = TaskiqSender(broker)


async def sender() -> Sender:
    await broker.startup()
    return _sender
