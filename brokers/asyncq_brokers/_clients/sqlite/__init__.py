"""What the SQLite broker and the SQLite backend share: the file, a connection on a thread, the doorbell.

One file carries both. Several processes of one machine may use it at once, and any of them may be killed at any moment:
what a call has returned for stands in the write-ahead log, which is the kernel's.
"""

from asyncq_brokers._clients.sqlite import _packed as packed
from asyncq_brokers._clients.sqlite._connection import Connection
from asyncq_brokers._clients.sqlite._coordination import SQLiteCoordination
from asyncq_brokers._clients.sqlite._doorbell import Bell
from asyncq_brokers._clients.sqlite._errors import Failures
from asyncq_brokers._clients.sqlite._session import Session

__all__ = ["Bell", "Connection", "Failures", "SQLiteCoordination", "Session", "packed"]
