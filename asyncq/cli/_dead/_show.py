"""`asyncq dead show`: all there is to know of a dead letter, and its arguments only for who asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncq.cli._dead._letters import document
from asyncq.cli._drivers import opened, queue_names, reader_of
from asyncq.cli._failures import CommandError, ExitCode
from asyncq.cli._locate import locate
from asyncq.cli._moments import describe
from asyncq.cli._options import AppArgument, JsonOption, NamesArgument, QueuesOption, split_names
from asyncq.cli._output import answer, as_json, printable

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Entry
    from asyncq.protocol import TaskMessage, WireMessage

#: Bytes that are shown of what can't be decoded: enough to see what kind of thing it is; and for who asks for values.
_FEW, _MANY = 16, 512

#: Headers of the protocol that may hold what a user passed. Celery writes arguments into the first two as they are.
_TELLING = frozenset({"argsrepr", "kwargsrepr", "stamps"})


def show(
    app: AppArgument,
    ids: NamesArgument,
    values: Annotated[
        bool, typer.Option("--values", help="Show arguments and headers as they are, not only their shapes.")
    ] = False,
    names: QueuesOption = None,
    json: JsonOption = False,
) -> None:
    """Show dead letters: reason, headers, and what they call, with arguments as shapes.

    Of what can't be decoded the first bytes are shown. Exits with 1 when one of the ids is not there.
    """
    import asyncio

    from asyncq._clock import SystemClock

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    entries = asyncio.run(_find(queue, chosen, frozenset(ids)))
    documents = [{**document(entry), **_contents(entry, values=values)} for entry in entries]
    if json:
        answer(as_json({"dead": documents}))
    elif entries:
        now = SystemClock().wall()
        answer("\n\n".join(_text(entry, each, now) for entry, each in zip(entries, documents, strict=True)))
    missing = sorted(set(ids).difference(*(entry.names for entry in entries)))
    if missing:
        raise CommandError(f"not among the dead letters of {', '.join(chosen)}: {', '.join(missing)}", ExitCode.FAILED)


async def _find(queue: AsyncQ, names: Sequence[str], ids: frozenset[str]) -> list[Entry]:
    from asyncq._operating import Selection, find

    reader = reader_of(queue)
    async with opened(queue.make_broker()) as broker:
        return [entry for name in names async for entry in find(broker, name, "dead", reader, Selection(ids))]


# -- what it carries -----------------------------------------------------------------------------------------


def _contents(entry: Entry, *, values: bool) -> dict[str, Any]:  # Any: JSON's
    wire, body = entry.wire, entry.body
    contents: dict[str, Any] = {
        "content_type": None if wire is None else wire.content_type,
        "bytes": len(body),
        "fault": entry.fault,
        **({} if wire is None else _headers(wire, values=values)),
    }
    if entry.call is None:
        return contents | {"first_bytes": body[: _MANY if values else _FEW].hex()}
    return contents | _call(entry.call, values=values)


def _headers(wire: WireMessage, *, values: bool) -> dict[str, Any]:  # Any: JSON's
    from asyncq.protocol import custom_headers, shape_of_kwargs

    if values:
        return {"headers": wire.headers}
    own = custom_headers(wire)
    hidden = own.keys() | _TELLING
    shown = {name: value for name, value in wire.headers.items() if name not in hidden}
    return {"headers": shown, "custom_headers": shape_of_kwargs(own)} if own else {"headers": shown}


def _call(call: TaskMessage, *, values: bool) -> dict[str, Any]:  # Any: JSON's
    from asyncq.protocol import shape_of_args, shape_of_kwargs

    links = {
        "callbacks": call.callbacks,
        "errbacks": call.errbacks,
        "chain": call.chain,
        "chord": None if call.chord is None else [call.chord],
    }
    return {
        "args": call.args if values else shape_of_args(call.args),
        "kwargs": call.kwargs if values else shape_of_kwargs(call.kwargs),
        "links": {name: [each.get("task") for each in linked] for name, linked in links.items() if linked},
    }


# -- for people ----------------------------------------------------------------------------------------------


def _text(entry: Entry, found: dict[str, Any], now: float) -> str:  # Any: JSON's
    lines = {
        "id": entry.names[0],
        "key": entry.stored.key,
        "task": entry.task or "?",
        "queue": entry.stored.queue,
        "died": f"{describe(entry.died_at, now)}, attempts: {'?' if entry.attempts is None else entry.attempts}",
        "reason": entry.reason or "?",
        "content": f"{found['content_type'] or 'no envelope'}, {found['bytes']} bytes",
    }
    if entry.fault is not None:
        lines["fault"] = entry.fault
    for name in ("args", "kwargs", "custom_headers"):
        if name in found:
            value = found[name]
            lines[name.replace("_", " ")] = value if isinstance(value, str) else as_json(value)
    lines |= {name: ", ".join(map(str, tasks)) for name, tasks in found.get("links", {}).items()}
    headers: dict[str, Any] = found.get("headers", {})
    lines |= {f"  {name}": as_json(value) for name, value in headers.items() if value is not None}
    width = max(map(len, lines))
    text = [f"{printable(name):<{width}}  {printable(value)}" for name, value in lines.items()]
    return "\n".join(text + _hexdump(bytes.fromhex(found.get("first_bytes", ""))))


def _hexdump(raw: bytes) -> list[str]:
    lines: list[str] = []
    for start in range(0, len(raw), 16):
        row = raw[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  |{text}|")
    return lines
