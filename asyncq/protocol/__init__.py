"""Celery's message protocol, sans I/O: bytes to structs and back, by plain functions.

The facts are Celery 5.7's and kombu 5.7's, and those of the other programs that speak it. What comes in is bounded by
`Limits` and ends in a struct or a DecodeError; what goes out can be read again, by asyncq and by Celery.
"""

from asyncq.protocol._dead import DeadLetter, dead_letter, read_dead_letter, replay_of
from asyncq.protocol._envelope import decode_envelope, encode_envelope
from asyncq.protocol._exceptions import ExceptionRegistry, describe_exception
from asyncq.protocol._headers import DISPATCH_HEADER, UNKNOWN_HEADER, fault_of_names
from asyncq.protocol._json import dumps, loads, register_json_type
from asyncq.protocol._parts import Part, SavedGroup, decode_group, decode_part, encode_group, encode_part
from asyncq.protocol._repr import shape_of_args, shape_of_kwargs
from asyncq.protocol._results import READY_STATES, decode_result, encode_result
from asyncq.protocol._task_decode import custom_headers, decode_task
from asyncq.protocol._task_encode import encode_task, lost_of, rescheduled, retry_of
from asyncq.protocol._types import Limits, Properties, ResultRecord, TaskMessage, WireMessage

__all__ = [
    "DISPATCH_HEADER",
    "READY_STATES",
    "UNKNOWN_HEADER",
    "DeadLetter",
    "ExceptionRegistry",
    "Limits",
    "Part",
    "Properties",
    "ResultRecord",
    "SavedGroup",
    "TaskMessage",
    "WireMessage",
    "custom_headers",
    "dead_letter",
    "decode_group",
    "decode_part",
    "decode_envelope",
    "decode_result",
    "decode_task",
    "describe_exception",
    "dumps",
    "encode_group",
    "encode_part",
    "encode_envelope",
    "encode_result",
    "encode_task",
    "fault_of_names",
    "loads",
    "lost_of",
    "read_dead_letter",
    "register_json_type",
    "replay_of",
    "rescheduled",
    "retry_of",
    "shape_of_args",
    "shape_of_kwargs",
]
