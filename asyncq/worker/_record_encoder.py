"""What is stored of a task: the record of a state, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncq._validation import dump_result
from asyncq.driver import StoredResult
from asyncq.errors import EncodeError
from asyncq.protocol import READY_STATES, ResultRecord, TaskMessage, encode_result, shape_of_args, shape_of_kwargs
from asyncq.worker._attempt import Attempt
from asyncq.worker._setup import WorkerSetup

# `Any` below: results of the user's tasks.


class RecordEncoder:
    """Makes records as the app wants them. Both methods return None where there is no backend to store them.

    They raise EncodeError when `result` cannot travel, or the record is too large for the backend.
    """

    def __init__(self, setup: WorkerSetup, *, node: str) -> None:
        self._setup = setup
        self._node = node
        self._clock = setup.environment.clock

    def of(
        self, attempt: Attempt, state: str, result: Any, text: str | None = None, *, more: Sequence[Any] = ()
    ) -> StoredResult | None:
        """The record of an attempt, with the traceback's `text`, and `more` children than it has sent itself."""
        children = [*attempt.children, *more] if more else attempt.children
        return self.encode(attempt.message, state, result, text, queue=attempt.delivery.queue, children=children)

    def encode(
        self,
        message: TaskMessage,
        state: str,
        result: Any,
        text: str | None = None,
        *,
        queue: str,
        children: list[Any] | None = None,
    ) -> StoredResult | None:
        """The record of a message, also of one that never became an attempt."""
        setup = self._setup
        if setup.backend is None:
            return None
        record = ResultRecord(
            task_id=message.id,
            status=state,
            result=result,
            traceback=text,
            children=children,
            date_done=datetime.fromtimestamp(self._clock.wall(), setup.timezone) if state in READY_STATES else None,
            group_id=message.group,
            parent_id=message.parent_id,
        )
        if setup.result_extended:
            record.extra = {
                "name": message.task,
                "args": message.args,
                "kwargs": message.kwargs,
                "worker": self._node,
                "retries": message.retries,
                "queue": queue,
            }
        expires = setup.result_expires
        if state == "FAILURE" and setup.result_failure_expires is not None:
            expires = setup.result_failure_expires
        try:
            raw = self._bytes_of(record)
        except EncodeError:
            if not setup.result_extended:
                raise
            # Arguments that came in another way than results are stored must not cost the result.
            record.extra |= {"args": shape_of_args(message.args), "kwargs": shape_of_kwargs(message.kwargs)}
            raw = self._bytes_of(record)
        reply_to = message.properties.reply_to
        return StoredResult(task_id=message.id, record=raw, status=state, expires=expires, reply_to=reply_to)

    def _bytes_of(self, record: ResultRecord) -> bytes:
        setup = self._setup
        raw = _serialise(record, setup)
        limit = None if setup.backend is None else setup.backend.capabilities.max_record_bytes
        if limit is not None and len(raw) > limit:
            raise EncodeError(f"the record has {len(raw):,} bytes; the result backend takes {limit:,} at most")
        return raw


def _serialise(record: ResultRecord, setup: WorkerSetup) -> bytes:
    try:
        return encode_result(record, serializer=setup.result_serializer, compression=setup.result_compression)
    except EncodeError:
        # Models and dataclasses, which most results are not, are looked for only when the plain way fails.
        record.result = dump_result(record.result)
        return encode_result(record, serializer=setup.result_serializer, compression=setup.result_compression)
