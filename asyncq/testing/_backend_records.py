"""Records are stored, read, overwritten, forgotten, and expire."""

from __future__ import annotations

import os

import pytest

from asyncq.driver import ResultBackend
from asyncq.testing._backend_kit import BackendFixtures, NewBackend, get, gone, result, store, success
from asyncq.testing._kit import cancel_everywhere, environment, wall, within

RECORDS = {
    "empty": b"",
    "json": b'{"status": "SUCCESS", "result": 3}',
    "nul": b"\0" * 100,
    "not-utf8": bytes(range(256)),
    "5-mebibytes": os.urandom(5 * 1024 * 1024),
}


class Records(BackendFixtures):
    @pytest.mark.parametrize("record", [pytest.param(value, id=name) for name, value in RECORDS.items()])
    async def test_a_record_comes_back_byte_for_byte(
        self, new_backend: NewBackend, backend: ResultBackend, task: str, record: bytes
    ) -> None:
        limit = backend.capabilities.max_record_bytes
        if limit is not None and len(record) > limit:
            pytest.skip("capabilities.max_record_bytes: smaller than this record")

        assert await store(backend, task, record)

        assert await get(await new_backend(), task) == record

    async def test_what_was_never_stored_is_none(self, backend: ResultBackend, task: str) -> None:
        assert await get(backend, task) is None

    async def test_many_at_once_come_in_the_order_asked(self, backend: ResultBackend) -> None:
        tasks = [environment.new_id() for _ in range(300)]
        stored = await within(backend.store([result(task, task.encode()) for task in tasks]))

        asked = [*reversed(tasks), "no-such-task", tasks[0]]
        records = await within(backend.get(asked))

        assert stored == [True] * 300
        assert records == [*(task.encode() for task in reversed(tasks)), None, tasks[0].encode()]

    async def test_empty_batches_are_nothing(self, backend: ResultBackend) -> None:
        assert await within(backend.store([])) == []
        assert await within(backend.get([])) == []
        await within(backend.forget([]))

    async def test_the_later_record_wins(self, backend: ResultBackend, task: str) -> None:
        assert await store(backend, task, b"1", status="STARTED")
        assert await store(backend, task, b"2", status="RETRY")
        assert await get(backend, task) == b"2"

        batch = [result(task, b"3", status="STARTED"), result(task, b"4", status="FAILURE")]
        assert await within(backend.store(batch)) == [True, True]
        assert await get(backend, task) == b"4"

    @pytest.mark.parametrize("status", ["STARTED", "RETRY", "FAILURE", "REVOKED", "SUCCESS", "PROGRESS"])
    async def test_success_is_never_overwritten(
        self, new_backend: NewBackend, backend: ResultBackend, task: str, status: str
    ) -> None:
        done = success(task)
        assert await store(backend, task, done, status="SUCCESS")

        assert not await store(await new_backend(), task, b"again", status=status)

        assert await get(backend, task) == done

    async def test_success_is_never_overwritten_within_a_batch(self, backend: ResultBackend, task: str) -> None:
        other = environment.new_id()
        done = success(task)
        batch = [
            result(task, b"1", status="STARTED"),
            result(other, b"other"),
            result(task, done, status="SUCCESS"),
            result(task, b"3", status="FAILURE"),
        ]

        assert await within(backend.store(batch)) == [True, True, True, False]

        assert await within(backend.get([task, other])) == [done, b"other"]

    async def test_a_failure_may_become_a_success(self, backend: ResultBackend, task: str) -> None:
        assert await store(backend, task, b"no", status="FAILURE")
        assert await store(backend, task, b"yes", status="SUCCESS")

        assert await get(backend, task) == b"yes"

    async def test_only_the_status_makes_a_success(self, backend: ResultBackend, task: str) -> None:
        """Another word in a record, or another record's value, decides nothing."""
        assert await store(backend, task, b'{"status": "STARTED", "result": "SUCCESS"}', status="STARTED")
        assert await store(backend, task, b'{"status": "STARTED"}', status="STARTED")

    async def test_a_forgotten_task_begins_anew(self, backend: ResultBackend, task: str) -> None:
        await store(backend, task, b"done", status="SUCCESS")

        await within(backend.forget([task, "no-such-task"]))

        assert await get(backend, task) is None
        assert await store(backend, task, b"again", status="STARTED")

    async def test_a_record_expires(self, backend: ResultBackend, task: str) -> None:
        lasting = environment.new_id()
        await store(backend, lasting, b"stays", status="SUCCESS")
        await store(backend, task, b"goes", status="SUCCESS", expires=1.0)
        stored_at = wall()
        assert await get(backend, task) == b"goes"

        await gone(backend, task)

        assert wall() >= stored_at + 0.5, "early"
        assert await get(backend, lasting) == b"stays"
        assert await store(backend, task, b"anew", status="STARTED")

    async def test_storing_sets_the_expiry_anew(self, backend: ResultBackend, task: str) -> None:
        await store(backend, task, b"1", expires=1.0)
        await store(backend, task, b"2", expires=60.0)
        other = environment.new_id()
        await store(backend, other, b"witness", expires=1.0)

        await gone(backend, other)

        assert await get(backend, task) == b"2"


class CancellingBackend(BackendFixtures):
    async def test_a_cancelled_store(self, backend: ResultBackend, task: str) -> None:
        """The batch is stored as a whole or not at all."""
        other = environment.new_id()
        batch = [result(task, b"a"), result(other, b"b")]

        async def check() -> None:
            assert await within(backend.get([task, other])) in ([b"a", b"b"], [None, None])
            await within(backend.forget([task, other]))
            assert await within(backend.get([task, other])) == [None, None]

        await cancel_everywhere(lambda: backend.store(batch), check)

    async def test_a_cancelled_get(self, backend: ResultBackend, task: str) -> None:
        """The next call gets its own answer, not the cancelled one's."""
        other = environment.new_id()
        await store(backend, task, b"a")
        await store(backend, other, b"b")

        async def check() -> None:
            assert await within(backend.get([other])) == [b"b"]

        await cancel_everywhere(lambda: backend.get([task, task]), check)

    async def test_a_cancelled_forget(self, backend: ResultBackend, task: str) -> None:
        await store(backend, task, b"a")

        async def check() -> None:
            assert await get(backend, task) in {b"a", None}
            await store(backend, task, b"a")

        await cancel_everywhere(lambda: backend.forget([task]), check)
