"""Following tasks: nothing missed after entering, nothing left behind after leaving."""

from __future__ import annotations

import asyncio

import pytest

from asyncq.driver import ResultBackend
from asyncq.testing._backend_kit import (
    BackendFixtures,
    NewBackend,
    Restart,
    Subscriptions,
    changes_until,
    reconnected,
    result,
    store,
)
from asyncq.testing._kit import MOMENTS, cancel_at, cancel_everywhere, cpu_share, environment, running, within


class Watching(BackendFixtures):
    async def test_first_the_record_of_the_moment_then_each_change(
        self, new_backend: NewBackend, backend: ResultBackend, task: str
    ) -> None:
        writer = await new_backend()
        await store(writer, task, b"1")

        async with backend.watch([task]) as changes:
            assert await within(anext(changes)) == (task, b"1")
            await store(writer, task, b"2")
            assert await within(anext(changes)) == (task, b"2")
            await store(writer, task, b"3", status="SUCCESS")
            assert await within(anext(changes)) == (task, b"3")

    async def test_what_was_stored_right_after_entering_is_not_missed(
        self, new_backend: NewBackend, backend: ResultBackend
    ) -> None:
        writer = await new_backend()
        for _ in range(30):
            task = environment.new_id()
            async with backend.watch([task]) as changes:
                await store(writer, task, b"done", status="SUCCESS")
                assert await within(anext(changes)) == (task, b"done")

    async def test_a_store_that_races_the_entering_is_not_missed(
        self, new_backend: NewBackend, backend: ResultBackend
    ) -> None:
        writer = await new_backend()
        for turns in range(30):
            task = environment.new_id()

            async def write(task: str = task, turns: int = turns) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await store(writer, task, b"done", status="SUCCESS")

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                async with backend.watch([task]) as changes:
                    assert await within(anext(changes)) == (task, b"done")

    async def test_of_several_changes_the_last_comes(
        self, new_backend: NewBackend, backend: ResultBackend, task: str
    ) -> None:
        writer = await new_backend()
        async with backend.watch([task]) as changes:
            await within(writer.store([result(task, b"%d" % number) for number in range(50)]))

            await changes_until(changes, lambda seen: seen.get(task) == b"49")

    async def test_many_tasks_in_one_watch(self, new_backend: NewBackend, backend: ResultBackend) -> None:
        writer = await new_backend()
        tasks = [environment.new_id() for _ in range(self.many)]
        early = len(tasks) // 3
        await within(writer.store([result(task, b"early", status="SUCCESS") for task in tasks[:early]]))

        async with backend.watch(tasks) as changes:
            await within(writer.store([result(task, b"late", status="SUCCESS") for task in tasks[early:]]))
            seen = await changes_until(changes, lambda seen: len(seen) == len(tasks))

        assert seen == {task: b"early" if position < early else b"late" for position, task in enumerate(tasks)}

    async def test_many_watchers(self, new_backend: NewBackend, backend: ResultBackend) -> None:
        writer = await new_backend()
        tasks = [environment.new_id() for _ in range(10)]

        async def follow(task: str) -> tuple[str, bytes]:
            async with backend.watch([task]) as changes:
                return await anext(changes)

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(within(follow(tasks[number % 10]))) for number in range(200)]
            await cpu_share(0.05)  # so that most of them wait by now
            await within(writer.store([result(task, task.encode(), status="SUCCESS") for task in tasks]))

        assert [task.result() for task in waiting] == [
            (tasks[number % 10], tasks[number % 10].encode()) for number in range(200)
        ]

    async def test_a_watcher_that_leaves_takes_nothing_from_the_others(
        self, new_backend: NewBackend, backend: ResultBackend, task: str
    ) -> None:
        writer = await new_backend()
        async with backend.watch([task]) as staying:
            async with backend.watch([task, environment.new_id()]):
                pass
            await store(writer, task, b"done", status="SUCCESS")

            assert await within(anext(staying)) == (task, b"done")

    async def test_others_changes_are_not_told(
        self, new_backend: NewBackend, backend: ResultBackend, task: str
    ) -> None:
        writer = await new_backend()
        async with backend.watch([task]) as changes:
            await store(writer, environment.new_id(), b"other")
            await store(writer, task, b"mine")

            assert await within(anext(changes)) == (task, b"mine")

    async def test_an_idle_watch_uses_no_cpu(self, backend: ResultBackend, task: str) -> None:
        async with backend.watch([task]) as changes, running(within(anext(changes))):
            await cpu_share(0.1)  # settle in
            assert await cpu_share(0.5) < 0.2  # a busy loop takes 1.0

    async def test_it_goes_on_through_a_restart(
        self, restart: Restart, new_backend: NewBackend, backend: ResultBackend, task: str
    ) -> None:
        writer = await new_backend()
        async with backend.watch([task]) as changes:
            await store(writer, task, b"1")
            assert await within(anext(changes)) == (task, b"1")
            await restart()
            await reconnected(lambda: store(writer, task, b"2", status="SUCCESS"))

            await changes_until(changes, lambda seen: seen.get(task) == b"2")


class LeavingNothingBehind(BackendFixtures):
    async def test_leaving_ends_the_subscription(
        self, backend: ResultBackend, task: str, subscriptions: Subscriptions
    ) -> None:
        async with backend.watch([task, environment.new_id()]):
            assert await subscriptions(backend) > 0

        await none_left(backend, subscriptions)

    async def test_a_cancelled_entering_leaves_no_subscription(
        self, new_backend: NewBackend, backend: ResultBackend, task: str, subscriptions: Subscriptions
    ) -> None:
        writer = await new_backend()
        await store(writer, task, b"1")

        async def enter() -> None:
            async with backend.watch([task]) as changes:
                await anext(changes)

        async def check() -> None:
            await none_left(backend, subscriptions)
            async with backend.watch([task]) as changes:
                assert await within(anext(changes)) == (task, b"1")

        await cancel_everywhere(enter, check)

    async def test_a_cancelled_waiting_leaves_no_subscription(
        self, new_backend: NewBackend, backend: ResultBackend, task: str, subscriptions: Subscriptions
    ) -> None:
        async def wait() -> None:
            async with backend.watch([task]) as changes:
                async with asyncio.timeout(0.05):
                    await anext(changes)

        for _ in range(3):
            with pytest.raises(TimeoutError):
                await within(wait())
            await none_left(backend, subscriptions)
        writer = await new_backend()
        async with backend.watch([task]) as changes:
            await store(writer, task, b"done")
            assert await within(anext(changes)) == (task, b"done")

    async def test_a_cancelled_step_misses_nothing(self, new_backend: NewBackend, backend: ResultBackend) -> None:
        """The iterator can be asked again after a step was cancelled, the answer being on its way or not."""
        writer = await new_backend()
        for moment in MOMENTS:
            task = environment.new_id()
            async with backend.watch([task]) as changes:
                async with asyncio.TaskGroup() as group:
                    step = group.create_task(cancel_at(lambda changes=changes: within(anext(changes)), 0, moment))
                    await cpu_share(0.02)
                    await store(writer, task, b"done")
                    await within(step)
                await store(writer, task, b"last", status="SUCCESS")

                await changes_until(changes, lambda seen, task=task: seen.get(task) == b"last")


async def none_left(backend: ResultBackend, subscriptions: Subscriptions) -> None:
    async def poll() -> None:
        while await subscriptions(backend):
            await asyncio.sleep(0.01)

    await within(poll())
