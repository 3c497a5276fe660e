"""Where messages leave for an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .channel import Channel
from .confirms import Outgoing
from .errors import ConnectionLost, Refused
from .link import Link

__all__ = ["Outlet", "Outlets"]

#: Outlets that are kept. Whoever writes to more exchanges than these has some opened again.
_MOST_KEPT = 200


class Outlet:
    """A channel on which one exchange is published to, with confirms; made again after each end.

    AMQP refuses a message by ending its channel, with all that was under way on it. So nobody else's messages are on
    this one, and the first goes alone: where there is no such exchange, or no right to write to it, that one was
    refused, and no other was sent.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._calls = 0

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._calls

    def leave(self) -> None:
        """Close the channel, without waiting. The next call opens another."""
        if self._channel is not None:
            self._channel.leave()

    async def publish(self, messages: Sequence[Outgoing], deadline: float) -> dict[int, str]:
        """Publish messages that are for the exchange; returns the positions that the server has not taken, and why.

        Raises Refused, Blocked: none was taken. ConnectionLost: their fate is unknown.
        """
        self._calls += 1
        try:
            failures: dict[int, str] = {}
            first = 0
            channel = self._channel
            if channel is None or channel.error is not None:
                async with self._opening:
                    channel = self._channel
                    if channel is None or channel.error is not None:
                        channel, failures = await self._open(messages[:1], deadline)
                        first = 1
            if len(messages) > first:
                later = await _publish(channel, messages[first:], deadline)
                failures |= {first + position: reason for position, reason in later.items()}
            return failures
        finally:
            self._calls -= 1

    async def _open(self, messages: Sequence[Outgoing], deadline: float) -> tuple[Channel, dict[int, str]]:
        """Open a channel that these messages have proved."""
        channel = await self._link.channel(deadline)
        try:
            await channel.confirm(deadline)
            await channel.connection.ready_to_publish(deadline)
            failures = await channel.answer(channel.publish(messages), deadline)
        except BaseException:
            channel.leave()
            raise
        self._channel = channel
        return channel, failures


async def _publish(channel: Channel, messages: Sequence[Outgoing], deadline: float) -> dict[int, str]:
    await channel.connection.ready_to_publish(deadline)
    try:
        return await channel.answer(channel.publish(messages), deadline)
    except Refused as refusal:
        # It was good before. What went through before this refusal has lost its confirms.
        raise ConnectionLost(f"RabbitMQ closed the channel while it took messages: {refusal}") from refusal


class Outlets:
    """One for each exchange that is written to."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._by_exchange: dict[str, Outlet] = {}

    def to(self, exchange: str) -> Outlet:
        """The outlet to an exchange, whether or not that is there. Good until the caller lets others run."""
        outlet = self._by_exchange.get(exchange)
        if outlet is None:
            if len(self._by_exchange) >= _MOST_KEPT:
                self._drop_idle()
            outlet = self._by_exchange[exchange] = Outlet(self._link)
        return outlet

    def _drop_idle(self) -> None:
        for exchange in [exchange for exchange, outlet in self._by_exchange.items() if outlet.idle]:
            self._by_exchange.pop(exchange).leave()
