"""The application on taskiq, once for each of two brokers of taskiq-redis."""

from __future__ import annotations

from taskiq import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from . import environment
from .sender import Sender
from .taskiq_sender import TaskiqSender


def _sender(broker: AsyncBroker) -> TaskiqSender:
    if environment.RESULTS:
        broker.with_result_backend(RedisAsyncResultBackend(environment.URL))
    return TaskiqSender(broker)


_on_list = _sender(ListQueueBroker(environment.URL))
_on_stream = _sender(RedisStreamBroker(environment.URL))

#: What the worker commands name.
listed, streamed = _on_list.broker, _on_stream.broker


async def list_sender() -> Sender:
    await listed.startup()
    return _on_list


async def stream_sender() -> Sender:
    await streamed.startup()
    return _on_stream
