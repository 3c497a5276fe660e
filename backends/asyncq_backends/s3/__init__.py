"""The S3 result backend: Celery's objects, for results that are too large for a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import S3Backend

if TYPE_CHECKING:
    from asyncq.driver import DriverConfig, GroupKeeping, Permitted, ResultBackend

    _backend: Callable[[DriverConfig], ResultBackend] = S3Backend
    _permitted: Callable[[DriverConfig], Permitted] = S3Backend
    _keeping: Callable[[DriverConfig], GroupKeeping] = S3Backend

__all__ = ["S3Backend"]
