"""The DynamoDB result backend: Celery's items, shared with Celery's clients and workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import DynamoBackend

if TYPE_CHECKING:
    from asyncq.driver import Coordinating, DriverConfig, GroupKeeping, Joining, Permitted, ResultBackend

    _backend: Callable[[DriverConfig], ResultBackend] = DynamoBackend
    _permitted: Callable[[DriverConfig], Permitted] = DynamoBackend
    _keeping: Callable[[DriverConfig], GroupKeeping] = DynamoBackend
    _coordinating: Callable[[DriverConfig], Coordinating] = DynamoBackend
    _joining: Callable[[DriverConfig], Joining] = DynamoBackend

__all__ = ["DynamoBackend"]
