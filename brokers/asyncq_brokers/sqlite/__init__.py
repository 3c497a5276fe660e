"""`sqlite://`: queues in one file, for any number of processes of one machine, without a server.

A message is a row. It is ready, or leased (`token` names the delivery, `until` ends it), or parked (`due`); dead
letters are ready rows of the queue `<queue>.dead`. Whoever settles must show the token, so that a worker whose lease
went to somebody else changes nothing. A batch is one transaction.

The file is `asyncq_brokers._clients.sqlite`'s; the SQLite backend keeps its results in the same one.
"""

from asyncq_brokers.sqlite._broker import SQLiteBroker

__all__ = ["SQLiteBroker"]
