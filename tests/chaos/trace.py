"""What a Redis server has done, in order: its append-only file as a trace of the wire.

Scripts stand in it as the writes they made, one after the other, so that it tells what took effect and when, whatever
the connections that asked for it have seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

_RESULT = b"celery-task-meta-"
_FINAL = ("SUCCESS", "FAILURE", "REVOKED")

#: For a server whose file is to be read: everything is kept, as it came.
AOF: dict[str, str] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",
    "aof-use-rdb-preamble": "no",
}


def acknowledged_unstored(folder: Path) -> list[str]:
    """Tasks whose deliveries were acknowledged before a final result of theirs was stored.

    A delivery that goes away in the same transaction in which its message goes elsewhere (back to its queue, to the
    parked ones, to the dead letters) was moved, not acknowledged.
    """
    held: dict[bytes, str] = {}
    stored: set[str] = set()
    guilty: list[str] = []
    for transaction in _transactions(folder):
        gone: list[bytes] = []
        moved = False
        for name, *words in transaction:
            match name.upper():
                case b"SET" if words[0].startswith(_RESULT):
                    if _is_final(words[1]):
                        stored.add(words[0].removeprefix(_RESULT).decode())
                case b"HSET" if words[0] == b"unacked":
                    for tag, record in zip(words[1::2], words[2::2], strict=True):
                        held[tag] = json.loads(record)[0]["headers"]["id"]
                case b"HDEL" if words[0] == b"unacked":
                    gone += words[1:]
                case b"LPUSH" | b"RPUSH":
                    moved = True
                case b"HSET" if words[0].startswith(b"asyncq.parked_messages"):
                    moved = True
                case _:
                    pass
        ended = [held.pop(tag) for tag in gone if tag in held]
        if not moved:
            guilty += [task_id for task_id in ended if task_id not in stored]
    return guilty


def _is_final(record: bytes) -> bool:
    return json.loads(record)["status"] in _FINAL


def _transactions(folder: Path) -> Iterator[list[list[bytes]]]:
    """The commands of each transaction; a command on its own is a transaction of one."""
    inside: list[list[bytes]] | None = None
    for path in sorted(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3])):
        for command in _commands(path.read_bytes()):
            if command[0].upper() == b"MULTI":
                inside = []
            elif command[0].upper() == b"EXEC":
                yield inside or []
                inside = None
            elif inside is not None:
                inside.append(command)
            else:
                yield [command]


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """The commands of a file, up to one that was cut off at its end."""
    position = 0
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            return
        count, position = int(data[position + 1 : end]), end + 2
        command: list[bytes] = []
        for _ in range(count):
            end = data.find(b"\r\n", position)
            if end < 0:
                return
            size = int(data[position + 1 : end])
            word = data[end + 2 : end + 2 + size]
            position = end + 4 + size
            if position > len(data):
                return
            command.append(word)
        yield command
