"""Names of everything that stands on the server: kombu's, and asyncq's own (which begin with `asyncq.`)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection

from asyncq.errors import ConfigurationError
from asyncq_brokers._clients.redis import BrokerOptions
from asyncq_brokers._parcels import dead_queue

__all__ = ["PRIORITIES", "Keys", "clamp"]

#: Priorities as kombu's Redis transport has them.
PRIORITIES = range(10)

#: What other keys begin with: asyncq's own, kombu's bindings, Celery's results.
_FOREIGN = ("asyncq.", "_kombu.", "celery-task-meta-", "celery-taskset-meta-")


def clamp(priority: int) -> int:
    """The nearest of `PRIORITIES`."""
    return min(max(priority, PRIORITIES[0]), PRIORITIES[-1])


class Keys:
    """Key names under one set of transport options. 0 is the priority that is served first."""

    def __init__(self, options: BrokerOptions) -> None:
        #: What stands before every key.
        self.prefix = prefix = options.global_keyprefix
        self._sep = options.sep
        self._steps = options.priority_steps
        self._reserved = {options.unacked_key, options.unacked_index_key, options.unacked_mutex_key}
        #: Hash: tag -> JSON `[message, exchange, routing key]`. Celery and asyncq record in it what they hold.
        self.unacked = prefix + options.unacked_key
        #: Sorted set: tag -> UNIX time of the delivery, after which Celery counts its visibility timeout.
        self.unacked_index = prefix + options.unacked_index_key
        #: Lock around Celery's sweep.
        self.unacked_mutex = prefix + options.unacked_mutex_key
        #: Sorted set: tag -> UNIX time at which the lease of an asyncq consumer ends.
        self.leases = prefix + "asyncq.leases"
        #: Hash like `unacked`, for what is no JSON: Celery's sweep dies of such a record, on every worker.
        self.unreadable = prefix + "asyncq.unreadable"
        #: Set of the names of queues that have parked messages.
        self.parked_queues = prefix + "asyncq.parked"
        #: Never written. Scripts that must run on a full server delete it first: see lua/claim.lua.
        self.none = prefix + "asyncq.none"

    @property
    def steps(self) -> tuple[int, ...]:
        """The priority steps in serving order."""
        return self._steps

    def step(self, priority: int) -> int:
        """The step that a priority belongs to, by kombu's arithmetic."""
        return self._steps[bisect(self._steps, clamp(priority)) - 1]

    def list(self, queue: str, priority: int = 0) -> str:
        """The list that holds a queue's messages of a priority. Producers push at the head, consumers take the tail."""
        return self.prefix + queue + self.suffix(priority)

    def suffix(self, priority: int) -> str:
        """What a priority adds to the queue's name; nothing at step 0."""
        step = self.step(priority)
        return f"{self._sep}{step}" if step else ""

    def lists(self, queue: str) -> list[str]:
        """All lists of a queue in serving order."""
        return [self.list(queue, step) for step in self._steps]

    def dead(self, queue: str) -> str:
        """The list of a queue's dead letters: the ordinary list of the queue `<queue>.dead`."""
        return f"{self.prefix}{dead_queue(queue)}"

    def parked(self, queue: str) -> str:
        """Sorted set: id of a parked message -> UNIX time at which it is due."""
        return f"{self.prefix}asyncq.parked.{queue}"

    def parked_messages(self, queue: str) -> str:
        """Hash: id of a parked message -> one digit of priority and the message."""
        return f"{self.prefix}asyncq.parked_messages.{queue}"

    def binding(self, exchange: str) -> str:
        """Set of an exchange's bindings."""
        return f"{self.prefix}_kombu.binding.{exchange}"

    def binding_permanent(self, exchange: str) -> str:
        """Set of the bindings that belong to queues without `x-expires` (kombu 5.7)."""
        return f"{self.prefix}_kombu.binding_permanent.{exchange}"

    @property
    def binding_deadlines(self) -> str:
        """Sorted set: exchange -> UNIX milliseconds at which its bindings may go."""
        return f"{self.prefix}_kombu.binding_deadlines"

    def member(self, routing_key: str, pattern: str, queue: str) -> str:
        """One binding as kombu writes it."""
        return self._sep.join((routing_key, pattern, queue))

    def split_member(self, member: bytes) -> tuple[str, str, str] | None:
        """Routing key, pattern and queue of a binding; None where it is none."""
        parts = member.decode(errors="replace").split(self._sep)
        return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None

    def check(self, queue: str) -> None:
        """Refuse a queue's name that would collide with other keys. Raises ConfigurationError."""
        reserved = queue in self._reserved or queue.startswith(_FOREIGN)
        if not queue or self._sep in queue or reserved or "\x00" in queue or len(queue) > 1024:
            raise ConfigurationError(f"{queue[:80]!r} can't be the name of a queue on Redis")

    def check_all(self, queues: Collection[str]) -> None:
        """`check` for several. Raises ConfigurationError."""
        for queue in queues:
            self.check(queue)
