"""`asyncq scheduled`: what waits for its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from asyncq.cli._asking import ask
from asyncq.cli._drivers import on_each, opened, queue_names, reader_of
from asyncq.cli._entries import first_entries, tell_the_rest
from asyncq.cli._failures import CommandError, ExitCode
from asyncq.cli._locate import locate
from asyncq.cli._moments import as_iso, describe, read_moment
from asyncq.cli._options import (
    AppArgument,
    JsonOption,
    LimitOption,
    NamesArgument,
    QueuesOption,
    YesOption,
    split_names,
)
from asyncq.cli._output import answer, as_json, counted, counted_by_queue, print_table, say

if TYPE_CHECKING:
    from asyncq import AsyncQ
    from asyncq._operating import Entry
    from asyncq.driver import Broker


class _ListByDefault(TyperGroup):
    """`asyncq scheduled APP …` is short for `asyncq scheduled list APP …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: typer doesn't show its context's class
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


scheduled = typer.Typer(cls=_ListByDefault, no_args_is_help=True)


@scheduled.callback()
def _scheduled() -> None:
    """Show, release and move what is parked: tasks with an ETA, retries, what rate limits hold back.

    `asyncq scheduled APP` is short for `asyncq scheduled list APP`.
    """


@scheduled.command(name="list")
def list_scheduled(
    app: AppArgument,
    names: QueuesOption = None,
    limit: LimitOption = 100,
    release: Annotated[
        bool, typer.Option("--release", help="Put all of it back on its queues at once: the way back to Celery.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Show what is parked, the next due first.

    A reason is `eta`, `retry`, `unknown` (no worker has known the task so far) or `held` (a worker has put it aside: a
    rate limit, a task that is full, a snooze). With --release asyncq's workers must be stopped: they would park again
    what is not due yet.
    """
    import asyncio

    queue = locate(app)
    chosen = queue_names(queue, split_names(names))
    if release:
        _release(queue, chosen, yes=yes, json=json)
        return
    entries, total = asyncio.run(first_entries(queue, chosen, "parked", limit))
    if json:
        answer(as_json({"scheduled": [_document(entry) for entry in entries], "total": total}))
        return
    if entries:
        _print(entries)
    tell_the_rest(len(entries), total, f"nothing is parked in {', '.join(chosen)}")


@scheduled.command()
def move(
    app: AppArgument,
    task_ids: NamesArgument,
    delay: Annotated[
        float | None, typer.Option("--in", min=0, metavar="SECONDS", help="So many seconds from now.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="ISO 8601; local time where it has no offset.", show_default=False),
    ] = None,
    names: QueuesOption = None,
    json: JsonOption = False,
) -> None:
    """Let parked tasks be due at another time, sooner or later. Their ETA is changed with it.

    Exits with 1 when one of them is not parked.
    """
    import asyncio

    from asyncq._clock import SystemClock

    queue = locate(app)
    now = SystemClock().wall()
    until = read_moment(delay, at, now)
    chosen = queue_names(queue, split_names(names))
    moved, missing = asyncio.run(_move(queue, chosen, frozenset(task_ids), until, now))
    if json:
        answer(as_json({"moved": moved, "due": as_iso(until), "missing": missing}))
    elif moved:
        say(f"{moved} moved to {describe(until, now)}")
    if missing:
        raise CommandError(f"not parked in {', '.join(chosen)}: {', '.join(missing)}", ExitCode.FAILED)


# -- looking -------------------------------------------------------------------------------------------------


def _document(entry: Entry) -> dict[str, Any]:  # Any: JSON's
    from asyncq._operating import reason_of

    return {
        "id": entry.task_id,
        "key": entry.stored.key,
        "task": entry.task,
        "queue": entry.stored.queue,
        "due": as_iso(entry.stored.until),
        "reason": reason_of(entry),
        "retries": None if entry.call is None else entry.call.retries,
    }


def _print(entries: list[Entry]) -> None:
    from asyncq._clock import SystemClock

    now = SystemClock().wall()
    print_table(
        ("due", "id", "task", "queue", "reason"),
        (
            (describe(entry.stored.until, now), entry.names[0], entry.task or "?", entry.stored.queue, _reason(entry))
            for entry in entries
        ),
        whole={"due", "id"},
    )


def _reason(entry: Entry) -> str:
    from asyncq._operating import Reason, reason_of

    reason = reason_of(entry)
    return f"{reason} {entry.call.retries}" if reason is Reason.RETRY and entry.call is not None else str(reason)


# -- acting --------------------------------------------------------------------------------------------------


def _release(queue: AsyncQ, names: tuple[str, ...], *, yes: bool, json: bool) -> None:
    import asyncio

    from asyncq._operating import release

    if not yes:
        counts = asyncio.run(on_each(queue, names, _count))
        ask(f"Put {counted_by_queue(counts, 'message')} back?")
    released = asyncio.run(on_each(queue, names, release))
    if json:
        answer(as_json({"released": released}))
    else:
        say(", ".join(f"{counted(count, 'message')} put back on {name}" for name, count in released.items()))


async def _count(broker: Broker, name: str) -> int:
    from asyncq._operating import count

    return await count(broker, name, "parked") or 0


async def _move(
    queue: AsyncQ, names: tuple[str, ...], wanted: frozenset[str], until: float, now: float
) -> tuple[int, list[str]]:
    from asyncq._operating import Selection, find, reschedule

    reader = reader_of(queue)
    async with opened(queue.make_broker()) as broker:
        found = [
            entry for name in names async for entry in find(broker, name, "parked", reader, Selection(names=wanted))
        ]
        moved = await reschedule(broker, reader, found, until=until, now=now)
    return moved, sorted(wanted.difference(*(entry.names for entry in found)))
