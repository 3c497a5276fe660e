"""Celery's message protocol, sans I/O: bytes to structs and back, by plain functions."""

from asyncq.protocol._types import Limits, Properties, ResultRecord, TaskMessage, WireMessage

__all__ = ["Limits", "Properties", "ResultRecord", "TaskMessage", "WireMessage"]
