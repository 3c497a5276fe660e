"""What the log and the counts say of each change of state: one line and one count each."""

from __future__ import annotations

import logging

from asyncq.driver import Delivery
from asyncq.errors import InvalidArguments
from asyncq.worker._attempt import Attempt
from asyncq.worker._conclusion import Conclusion
from asyncq.worker._flow import WorkerStats

logger = logging.getLogger("asyncq.worker")


class Journal:
    """Tells the story of the tasks. Never shows arguments or results."""

    def __init__(self, stats: WorkerStats) -> None:
        self._stats = stats
        #: Names of unknown tasks that were told of.
        self._told: set[str] = set()

    def write(self, conclusion: Conclusion, attempt: Attempt) -> None:
        """What a task came to. A stranger's conclusion has no attempt: `unknown` has told of it."""
        if conclusion.state == "SUCCESS":
            self._stats.succeeded += 1
            # The one line that every task pays for: built only for a reader (7 µs with its fields, measured).
            if logger.isEnabledFor(logging.INFO):
                self._log(logging.INFO, "%s[%s] succeeded in %.3fs", attempt, attempt.runtime)
        else:
            self._write_other(conclusion, attempt)

    def _write_other(self, conclusion: Conclusion, attempt: Attempt) -> None:
        stats, error = self._stats, conclusion.error
        match conclusion.state:
            case "FAILURE":
                stats.failed += 1
                self._log_failure(attempt, error)
            case "RETRY":
                stats.retried += 1
                self._log(
                    logging.INFO,
                    "%s[%s] will be tried again (retry %d): %r",
                    attempt,
                    attempt.message.retries + 1,
                    error,
                )
            case "SNOOZED":
                stats.snoozed += 1
                self._log(logging.INFO, "%s[%s] is put aside", attempt)
            case "REVOKED":
                stats.revoked += 1
                self._log(logging.INFO, "%s[%s] was not run: %s", attempt, error)
            case "REPLACED":
                stats.replaced += 1
                self._log(logging.INFO, "%s[%s] gives its place to another task", attempt)
            case "REJECTED":
                stats.rejected += 1
                self._log(logging.INFO, "%s[%s] went back to its queue: %s", attempt, error)
            case "CRASHED":
                stats.crashed += 1
                self._log(logging.WARNING, "%s[%s] has killed its process and went back: %s", attempt, error)
            case "INTERRUPTED":
                stats.handed_back += 1
                self._log(logging.INFO, "%s[%s] was interrupted and handed back", attempt)
            case _:
                stats.ignored += 1
                self._log(logging.DEBUG, "%s[%s] ended without a state", attempt)

    def _log_failure(self, attempt: Attempt, error: BaseException | None) -> None:
        level, shown = logging.ERROR, error
        if isinstance(error, attempt.program.definition.options.throws):
            level, shown = logging.INFO, None
        elif isinstance(error, InvalidArguments):
            shown = None  # the sender's fault: no line of code here would explain it
        self._log(level, "%s[%s] failed in %.3fs: %r", attempt, attempt.runtime, error, error=shown)

    def received(self, count: int) -> None:
        self._stats.received += count

    def lost(self, attempt: Attempt) -> None:
        """The outcome is dropped: the delivery had gone to somebody else."""
        self._stats.lost += 1
        self._log(logging.WARNING, "%s[%s]: its lease was lost, the outcome is dropped; it runs elsewhere", attempt)

    def parked(self, task: str, task_id: str, until: float, delivery: Delivery) -> None:
        fields = {"task": task, "task_id": task_id, "queue": delivery.queue, "until": until}
        logger.debug("%s[%s] is parked until %.3f", task, task_id, until, extra=fields)

    def unknown(self, task: str, delivery: Delivery, *, dead: bool) -> None:
        """A task that this worker doesn't know. Told loudly once for each name: a queue may be shared by mistake."""
        fields = {"task": task, "queue": delivery.queue, "delivery_tag": delivery.tag}
        if dead:
            self.buried(delivery, f"unknown task {task!r}")
        elif task in self._told:
            logger.debug("%s is still unknown here; it waits for a worker that knows it", task, extra=fields)
        else:
            self._told.add(task)
            logger.warning(
                "Task %s of queue %s is unknown here. It goes back for others for an hour, then to the dead letters. "
                "Does this worker import all of its tasks, and should it serve this queue?",
                task,
                delivery.queue,
                extra=fields,
            )

    def buried(self, delivery: Delivery, reason: str) -> None:
        """A delivery goes to the dead letters, as it came."""
        fields = {"queue": delivery.queue, "delivery_tag": delivery.tag, "reason": reason}
        logger.error("A message of %s went to its dead letters: %s", delivery.queue, reason, extra=fields)

    def _log(self, level: int, text: str, attempt: Attempt, *args: object, error: BaseException | None = None) -> None:
        fields = attempt.log_fields()
        if attempt.runtime:
            fields["runtime"] = attempt.runtime
        message = attempt.message
        logger.log(level, text, message.task, message.id, *args, extra=fields, exc_info=error)
