"""A channel on which the messages of some queues are pushed to us, each queue through a window of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pamqp import commands

from asyncq.driver import Clock
from asyncq_brokers._clients.amqp import Channel, Incoming

if TYPE_CHECKING:
    from pamqp.base import Frame

__all__ = ["Lane"]


class Lane:
    """Windows are fixed for a lane's life, since RabbitMQ applies a new prefetch to new consumers only.

    Whoever can take more opens a further lane. One that is ended lives on until the last of its deliveries is settled.
    That also keeps long tasks apart from others: a delivery that is older than RabbitMQ's `consumer_timeout` takes its
    channel, and all that is out on it, down.
    """

    def __init__(self, channel: Channel, windows: Mapping[str, int], clock: Clock) -> None:
        self.windows = dict(windows)
        self.channel = channel
        #: Delivery tags that are not settled -> queue, monotonic time of arrival. In the order of arrival.
        self.out: dict[int, tuple[str, float]] = {}
        #: Unsettled deliveries by queue.
        self.load = dict.fromkeys(windows, 0)
        #: Its consumers are gone, or going.
        self.ended = False
        self._clock = clock
        self._queues: dict[str, str] = {}
        #: The last of those that `overdue` has named.
        self._told = 0

    @property
    def alive(self) -> bool:
        return self.channel.error is None

    @property
    def oldest(self) -> float:
        """Monotonic time of arrival of what has been out for longest; infinite when nothing is."""
        return next((arrived for _, arrived in self.out.values()), float("inf"))

    def overdue(self, since: float) -> Sequence[str]:
        """The queues of what has been out since before a monotonic time; each delivery is named once."""
        queues: list[str] = []
        for tag, (queue, arrived) in self.out.items():
            if arrived >= since:
                break
            if tag > self._told:
                self._told = tag
                queues.append(queue)
        return queues

    def has_room(self, queue: str) -> bool:
        """Something may come from this queue before anything is settled."""
        return self.load.get(queue, 0) < self.windows.get(queue, 0)

    async def open(self, node: str, arrive: Callable[[Lane, str, Incoming], None], deadline: float) -> None:
        """Begin to consume. Raises Refused for a queue that is not there or not ours to read."""
        channel = self.channel

        def take(incoming: Incoming) -> None:
            queue = self._queues[incoming.consumer_tag]
            self.out[incoming.delivery_tag] = (queue, self._clock.monotonic())
            self.load[queue] += 1
            arrive(self, queue, incoming)

        channel.on_delivery = take
        methods: list[Frame] = []
        for number, (queue, window) in enumerate(self.windows.items()):
            tag = f"{node}/{number}"[:255]
            self._queues[tag] = queue
            channel.window = window
            methods += [commands.Basic.Qos(0, window), commands.Basic.Consume(0, queue, tag)]
        await channel.calls(methods, deadline)

    def end(self) -> None:
        """Let nothing more be pushed. What is on its way still arrives until the channel's `barrier` has returned."""
        if not self.ended:
            self.ended = True
            if self.alive:
                for tag in self._queues:
                    self.channel.post(commands.Basic.Cancel(tag)).cancel()  # nobody waits for the reply

    def settle(self, acks: Sequence[int], back: Sequence[int]) -> None:
        """Acknowledge deliveries, and put others back to where they stood. `barrier` tells when that is done."""
        acked = set(acks)
        # All up to some delivery: one frame for them.
        covered = 0
        for tag in self.out:
            if tag not in acked:
                break
            covered = tag
        if covered:
            self.channel.ack(covered, multiple=True)
        for tag in acks:
            if tag > covered:
                self.channel.ack(tag)
        for tag in back:
            self.channel.requeue(tag)

    def forget(self, tags: Iterable[int]) -> None:
        """Deliveries that are settled."""
        for tag in tags:
            found = self.out.pop(tag, None)
            if found is not None:
                self.load[found[0]] -= 1
