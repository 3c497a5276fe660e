"""Functions of tasks that run in a process of their own: it imports them from here."""

from __future__ import annotations

import os
import time

from asyncq.errors import SoftTimeLimitExceeded


def whose() -> int:
    return os.getpid()


def breaks() -> None:
    raise ValueError("in the process")


def sleeps_for_ever() -> None:
    time.sleep(3600)


def cleans_up() -> str:
    try:
        time.sleep(3600)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "never"
