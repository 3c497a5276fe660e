"""The supervisor's end of a worker in this process: the flight table, and the pipe by which one speaks to it."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Any, Self

from asyncq._flight import Flight, Header, create, read_flights, read_header
from asyncq.worker import Supervision, Worker


class Post:
    """Stands above a worker while the block runs."""

    def __init__(self, worker: Worker, **options: Any) -> None:
        self.table = create()
        self._heard, self._mouth = os.pipe()
        worker.put_under(Supervision(table=self.table, control=self._heard, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.table)
        os.close(self._heard)
        with contextlib.suppress(OSError):
            os.close(self._mouth)

    @property
    def header(self) -> Header:
        header = read_header(self.table)
        assert header is not None
        return header

    @property
    def flights(self) -> list[Flight]:
        return read_flights(self.table)

    def say(self, word: bytes) -> None:
        os.write(self._mouth, word)

    def die(self) -> None:
        os.close(self._mouth)
