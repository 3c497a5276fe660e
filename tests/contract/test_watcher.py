"""A watch's reader: each task's last change, once, in the order of the changes."""

from __future__ import annotations

import asyncio

import pytest

from asyncq_backends._watcher import Watcher


async def unread(watcher: Watcher) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    try:
        async with asyncio.timeout(0):
            while True:
                found.append(await anext(watcher))
    except TimeoutError:
        return found


async def test_what_was_told_before_is_no_change() -> None:
    """Two sources tell: the look at the moment of entering, and the follower, in whatever order."""
    watcher = Watcher(["a"])
    watcher.tell("a", b"2", version=2)
    watcher.tell("a", b"1", version=1)
    assert await anext(watcher) == ("a", b"2")
    watcher.tell("a", b"2", version=2)
    watcher.tell("a", b"3", version=3)

    assert await unread(watcher) == [("a", b"3")]


async def test_only_the_last_of_several_changes_is_kept() -> None:
    watcher = Watcher(["a", "b"])
    for version, (task_id, record) in enumerate([("a", b"1"), ("b", b"2"), ("a", b"3")]):
        watcher.tell(task_id, record, version)

    assert await unread(watcher) == [("b", b"2"), ("a", b"3")]


async def test_the_end_comes_after_what_was_told() -> None:
    watcher = Watcher(["a"])
    watcher.tell("a", b"1", version=1)
    watcher.end(ConnectionError("gone"))

    assert await anext(watcher) == ("a", b"1")
    with pytest.raises(ConnectionError, match="gone"):
        await anext(watcher)
