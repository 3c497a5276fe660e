"""What an operator does with messages that nobody holds: find them, put them back, put them off, take them out.

Functions over a `Broker`, which the command line calls; each says what a crash in its middle leaves behind.
"""

from __future__ import annotations

from asyncq._operating._dead import drop_letters, replay
from asyncq._operating._entries import Entry, MessageReader, Selection
from asyncq._operating._parked import Reason, reason_of, release, reschedule
from asyncq._operating._places import count, find, first
from asyncq._operating._withdrawing import Withdrawal, withdraw

__all__ = [
    "Entry",
    "MessageReader",
    "Reason",
    "Selection",
    "Withdrawal",
    "count",
    "drop_letters",
    "find",
    "first",
    "reason_of",
    "release",
    "replay",
    "reschedule",
    "withdraw",
]
