"""`memory://`: queues in this process, for tests and for tasks that need not outlive it.

Everything that the other drivers promise holds here too: leases, parking, dead letters, priorities. All instances of
one app and URL share one store, through `DriverConfig.shared`, from whatever thread and event loop.
"""

from asyncq_brokers.memory._broker import MemoryBroker

__all__ = ["MemoryBroker"]
