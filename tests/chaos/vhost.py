"""A virtual host of a RabbitMQ, as its operator sees it."""

from __future__ import annotations

from typing import NamedTuple

from servers import RabbitServer


class Count(NamedTuple):
    """Messages of a queue, as RabbitMQ counts them itself."""

    ready: int
    unacknowledged: int


class Vhost(NamedTuple):
    """Each look takes half a second: `rabbitmqctl` starts a machine of its own."""

    server: RabbitServer
    name: str

    def counts(self) -> dict[str, Count]:
        """By queue, delay queues included."""
        words = ("--no-table-headers", "name", "messages_ready", "messages_unacknowledged")
        lines = self.server.control("list_queues", "--vhost", self.name, *words).splitlines()
        rows = [line.split("\t") for line in lines]
        return {name: Count(int(ready), int(unacknowledged)) for name, ready, unacknowledged in rows}

    def close_connections(self) -> None:
        """End all connections, of whomever."""
        self.server.control("close_all_connections", "--vhost", self.name, "by a test")
