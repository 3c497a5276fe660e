"""What passes between workers and a RabbitMQ beside what a Redis does: is a result stored before the acknowledgement?

A trace from outside: frames as the proxy sees them, and the Redis server's own word, with the moment of each.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from types import TracebackType
from typing import Self

from pamqp import commands
from pamqp.exceptions import PAMQPException
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from chaos.proxy import Direction, Proxy
from servers import RedisServer

#: Kind, channel and size stand before each frame, a mark behind it.
_HEAD, _MARK = 7, 1

_GREETING = b"AMQP\x00\x00\x09\x01"

#: `MONITOR` tells of a command with the server's time; scripts' commands as well.
_STORED = re.compile(
    rb'^\+(?P<moment>[\d.]+) \[[^\]]*\] "set" "celery-task-meta-(?P<id>[^"]+)" "(?P<record>.*)', re.IGNORECASE
)
_FINAL = re.compile(rb'\\"status\\": ?\\"(SUCCESS|FAILURE|REVOKED)\\"')


class Wire:
    """Listens while it is entered."""

    def __init__(self, proxy: Proxy, results: RedisServer) -> None:
        self._proxy = proxy
        self._results = results
        self._buffers: defaultdict[tuple[object, Direction], bytearray] = defaultdict(bytearray)
        #: Connection and channel -> delivery tag -> task id, of what is out.
        self._out: defaultdict[tuple[object, int], dict[int, str]] = defaultdict(dict)
        #: The tags of deliveries whose headers have not come yet.
        self._coming: dict[tuple[object, int], int] = {}
        #: Task id -> wall time of the first acknowledgement, and of the first final record.
        self.acknowledged: dict[str, float] = {}
        self.stored: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._results.port, limit=1 << 22)
        self._writer.write(b"MONITOR\r\n")
        assert await reader.readline() == b"+OK\r\n"
        self._listening = asyncio.create_task(self._listen(reader))
        self._proxy.tap = self._take
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()

    def acknowledged_unstored(self) -> set[str]:
        """Tasks whose deliveries were acknowledged before a final result of theirs was stored."""
        assert self.acknowledged, "nothing was heard"
        never = float("inf")
        return {task_id for task_id, moment in self.acknowledged.items() if moment < self.stored.get(task_id, never)}

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            found = _STORED.match(line)
            if found is not None and _FINAL.search(found["record"]):
                self.stored.setdefault(found["id"].decode(), float(found["moment"]))

    def _take(self, connection: object, direction: Direction, data: bytes) -> None:
        buffer = self._buffers[connection, direction]
        buffer += data
        if buffer.startswith(_GREETING):
            del buffer[: len(_GREETING)]
        while len(buffer) >= _HEAD:
            size = _HEAD + int.from_bytes(buffer[3:_HEAD]) + _MARK
            if len(buffer) < size:
                return
            try:
                _, channel, value = unmarshal(bytes(buffer[:size]))
            except PAMQPException:
                value, channel = None, 0
            del buffer[:size]
            self._note((connection, channel), value)

    def _note(self, place: tuple[object, int], value: object) -> None:
        out = self._out[place]
        match value:
            case commands.Channel.OpenOk():
                out.clear()
            case commands.Basic.Deliver():
                self._coming[place] = value.delivery_tag or 0
            case ContentHeader() if place in self._coming:
                out[self._coming.pop(place)] = value.properties.correlation_id or ""
            case commands.Basic.Ack() if out:
                self._acknowledge(out, value.delivery_tag or 0, multiple=bool(value.multiple))
            case commands.Basic.Nack() | commands.Basic.Reject():
                out.pop(value.delivery_tag or 0, None)
            case _:
                pass

    def _acknowledge(self, out: dict[int, str], tag: int, *, multiple: bool) -> None:
        now = time.time()
        for each in [each for each in out if each == tag or (multiple and each < tag)]:
            self.acknowledged.setdefault(out.pop(each), now)
