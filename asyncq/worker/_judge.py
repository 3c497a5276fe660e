"""Turns outcomes into conclusions. Decides only; `_concluder` acts."""

from __future__ import annotations

import logging
import math
import random
import traceback
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from asyncq._definition import TaskOptions
from asyncq._suspicion import Suspicion
from asyncq.driver import (
    Ack,
    Dead,
    Delivery,
    GiveBack,
    Park,
    Publication,
    Requeue,
    Settlement,
)
from asyncq.errors import (
    ConfigurationError,
    DecodeError,
    InvalidArguments,
    MaxRetriesExceededError,
    NotRegistered,
    ProtocolError,
    Reject,
    Retry,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from asyncq.protocol import (
    ExceptionRegistry,
    TaskMessage,
    dead_letter,
    decode_task,
    describe_exception,
    loads,
    retry_of,
)
from asyncq.worker._attempt import Attempt
from asyncq.worker._conclusion import Conclusion
from asyncq.worker._continuation import Continuation
from asyncq.worker._outcome import (
    Convicted,
    Crashed,
    Failed,
    Ignored,
    Interrupted,
    NotStarted,
    Outcome,
    Rejected,
    Replaced,
    RetryAsked,
    Revoked,
    Snoozed,
    Succeeded,
)
from asyncq.worker._record_encoder import RecordEncoder
from asyncq.worker._sequel import Sequel
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._strangers import put_off

logger = logging.getLogger(__name__)


class Judge:
    """Turns outcomes into conclusions by the rules of the task and of the app."""

    def __init__(self, setup: WorkerSetup, records: RecordEncoder, continuation: Continuation) -> None:
        self._setup = setup
        self._continuation = continuation
        self._records = records
        self._clock = setup.environment.clock
        #: Revives what others have put down.
        self._exceptions = ExceptionRegistry(setup.exceptions)

    def conclude(self, attempt: Attempt, outcome: Outcome) -> Conclusion:
        match outcome:
            case Succeeded(value):
                return self._success(attempt, value)
            case Failed(exc, retryable):
                return self._failed(attempt, exc, retryable=retryable)
            case Convicted(exc, reason):
                return self._convicted(attempt, exc, reason)
            case RetryAsked(retry):
                return self._retry(attempt, retry)
            case Snoozed(countdown):
                return self._snooze(attempt, countdown)
            case Rejected(reject):
                return self._reject(attempt, reject)
            case Revoked(reason):
                return self._revoked(attempt, TaskRevokedError(reason))
            case Replaced(document):
                return self._replaced(attempt, document)
            case Interrupted():
                return self._interrupted(attempt)
            case Crashed(exc):
                return self._crashed(attempt, exc)
            case Ignored() | NotStarted():
                return _unrecorded(attempt, outcome)

    def give_up(self, attempt: Attempt, error: Exception) -> Conclusion:
        """What follows when nothing else could be concluded: FAILURE if that can be, else the dead letters."""
        try:
            return self._failure(attempt, error)
        except Exception:
            logger.exception("Not even the failure of %s could be recorded", attempt)
        return self._buried(attempt, error, f"its outcome could not be recorded: {type(error).__name__}")

    def salvage(self, conclusion: Conclusion, error: Exception) -> list[Conclusion]:
        """What may still be done for a task that can't be concluded as it should, the better first.

        Its failure, and nothing of what follows from that; and, where not even that can be stored, the dead letters.
        """
        attempt, reason = conclusion.attempt, f"what follows from it could not be done: {type(error).__name__}"
        if attempt is None:
            letter = None if (settled := conclusion.settlement) is None else self.bury(settled.delivery, reason)
            return [Conclusion(attempt=None, state=conclusion.state, settlement=letter, error=error)]
        buried = self._buried(attempt, error, reason)
        failed = conclusion
        if failed.state != "FAILURE":
            failed = self._final(attempt, "FAILURE", describe_exception(error), text=traceback_text(error))
        return [replace(buried, record=failed.record), buried]

    # -- one outcome each ------------------------------------------------------------------------------------

    def _success(self, attempt: Attempt, value: Any) -> Conclusion:
        message, sequel = attempt.message, attempt.sequel
        try:
            if message.callbacks or message.chain or message.chord:
                sequel = self._continuation.after_success(message, value, sequel)
            if attempt.ignore_result or self._setup.backend is None:
                return Conclusion(attempt=attempt, state="SUCCESS", settlement=_ack(attempt), sequel=sequel)
            return self._final(attempt, "SUCCESS", value, sequel=sequel)
        except (ProtocolError, ConfigurationError) as error:
            return self._failure(attempt, error)

    def _revoked(self, attempt: Attempt, exc: TaskRevokedError) -> Conclusion:
        sequel = None if attempt.message.chord is None else self._continuation.after_revocation(attempt.message, exc)
        return self._final(attempt, "REVOKED", describe_exception(exc), error=exc, sequel=sequel)

    def _replaced(self, attempt: Attempt, document: dict[str, Any]) -> Conclusion:
        """No record: what takes its place has its id, and will store one."""
        try:
            sequel = self._continuation.instead_of(attempt.message, document)
        except (ProtocolError, ConfigurationError) as error:
            return self._failure(attempt, error)
        return Conclusion(attempt=attempt, state="REPLACED", settlement=_ack(attempt), sequel=sequel)

    def _failure(self, attempt: Attempt, exc: BaseException, *, settlement: Settlement | None = None) -> Conclusion:
        if settlement is None and not (attempt.acknowledged or attempt.program.acks_failures):
            if isinstance(exc, TimeLimitExceeded):
                settlement = Requeue(attempt.delivery)
            else:
                settlement = self.bury(
                    attempt.delivery, f"failed with {type(exc).__name__}", attempts=attempt.message.retries + 1
                )
        text = traceback_text(exc)
        sequel = None
        if not isinstance(settlement, Requeue):  # what comes again has not ended
            store = not attempt.ignore_result or attempt.program.store_errors
            sequel = self._continuation.after_failure(attempt.message, exc, text, store=store)
        return self._final(
            attempt, "FAILURE", describe_exception(exc), error=exc, text=text, settlement=settlement, sequel=sequel
        )

    def _failed(
        self, attempt: Attempt, exc: BaseException, *, retryable: bool, settlement: Settlement | None = None
    ) -> Conclusion:
        """Another attempt, where the task wants that; else its failure, settled as usual or by `settlement`."""
        if retryable and wants_retry(exc, attempt.program.definition.options):
            return self._retry(attempt, Retry(exc=exc))
        return self._failure(attempt, exc, settlement=settlement)

    def _convicted(self, attempt: Attempt, exc: TimeLimitExceeded, reason: str) -> Conclusion:
        """As at its hard limit; but it never goes back as it is, to block one worker after the other."""
        letter = None if attempt.program.acks_failures else self.bury(attempt.delivery, reason)
        return self._failed(attempt, exc, retryable=True, settlement=letter)

    def _retry(self, attempt: Attempt, retry: Retry) -> Conclusion:
        options, message = attempt.program.definition.options, attempt.message
        limit = options.max_retries if retry.max_retries is None else retry.max_retries
        if limit is not None and message.retries >= limit:
            spent = f"{message.task}[{message.id}] has used its {limit} retries"
            return self._failure(attempt, _reason(retry, spent))
        countdown = retry.countdown
        if countdown is None:
            countdown = backoff(options, message.retries, self._setup.environment.random)
        due = self._clock.wall() + countdown if countdown > 0 else None
        if due is not None and message.expires is not None and due > message.expires.timestamp():
            late = f"{message.task}[{message.id}] expires before it could be tried again"
            return self._failure(attempt, _reason(retry, late))
        follow_up = self._again(attempt, due=due, retries=message.retries + 1)
        # A progress bar of the Celery world reads the waiting time out of this text (clients.md, 39).
        text = f"{traceback_text(retry.exc or retry)}Retry in {math.ceil(countdown)}s"
        result = None if retry.exc is None else describe_exception(retry.exc)
        conclusion = self._final(attempt, "RETRY", result, error=retry.exc, text=text)
        conclusion.follow_ups = (follow_up,)
        return conclusion

    def _snooze(self, attempt: Attempt, countdown: float) -> Conclusion:
        due = self._clock.wall() + countdown
        conclusion = self._final(attempt, "RETRY", None, text=f"Snoozed for {countdown:g}s")
        conclusion.state = "SNOOZED"
        if attempt.acknowledged:
            conclusion.follow_ups = (self._again(attempt, due=due, retries=attempt.message.retries),)
        else:
            conclusion.settlement = Park(attempt.delivery, due)
        return conclusion

    def _reject(self, attempt: Attempt, reject: Reject) -> Conclusion:
        if not reject.requeue:
            letter = (
                None
                if attempt.acknowledged
                else self.bury(attempt.delivery, f"rejected: {reject.reason}", attempts=attempt.message.retries + 1)
            )
            return self._failure(attempt, reject, settlement=letter)
        if attempt.acknowledged:  # Celery loses it here; we send it anew
            again = self._again(attempt, due=None, retries=attempt.message.retries)
            return Conclusion(attempt=attempt, state="REJECTED", follow_ups=(again,), error=reject)
        return Conclusion(attempt=attempt, state="REJECTED", settlement=Requeue(attempt.delivery), error=reject)

    def _interrupted(self, attempt: Attempt) -> Conclusion:
        if attempt.acknowledged:
            lost = WorkerLostError("The worker stopped before the task could end, and it was acknowledged early.")
            return self._failure(attempt, lost)
        return Conclusion(attempt=attempt, state="INTERRUPTED", settlement=Requeue(attempt.delivery, front=True))

    def _crashed(self, attempt: Attempt, exc: WorkerLostError) -> Conclusion:
        """Another chance, as long as it is not convicted of `max_deliveries` deaths."""
        suspicion = attempt.suspicion or Suspicion()
        if attempt.acknowledged:
            return self._failure(attempt, exc)
        if not suspicion.convicts(self._setup.max_deliveries):
            return Conclusion(attempt=attempt, state="CRASHED", settlement=Requeue(attempt.delivery), error=exc)
        deaths, unexplained = suspicion.deaths, suspicion.unexplained
        reason = f"its process has died of it {len(deaths)} times: {'; '.join(deaths)}"
        if unexplained:
            reason += f"; and {unexplained} deliveries before came to no end"
        letter = self.bury(attempt.delivery, reason, attempts=len(deaths) + unexplained)
        return self._failure(attempt, exc, settlement=letter)

    # -- parts -------------------------------------------------------------------------------------------------

    def _final(
        self,
        attempt: Attempt,
        state: str,
        result: Any,
        *,
        error: BaseException | None = None,
        text: str | None = None,
        settlement: Settlement | None = None,
        sequel: Sequel | None = None,
    ) -> Conclusion:
        record = None
        keeps_errors = state == "FAILURE" and attempt.program.store_errors
        if not attempt.ignore_result or keeps_errors:
            more = () if sequel is None else sequel.children
            record = self._records.of(attempt, state, result, text, more=more)
        return Conclusion(
            attempt=attempt,
            state=state,
            sequel=sequel,
            record=record,
            settlement=settlement or _ack(attempt),
            error=error,
        )

    def _buried(self, attempt: Attempt, error: Exception, reason: str) -> Conclusion:
        """Nothing but the dead letters."""
        letter = None if attempt.acknowledged else self.bury(attempt.delivery, reason)
        return Conclusion(attempt=attempt, state="FAILURE", settlement=letter, error=error)

    def unregistered(self, delivery: Delivery, message: TaskMessage) -> Conclusion:
        """No task of that name here: others may know it, or this worker after the next deploy.

        It goes back with a growing delay, `unknown_task_timeout` in all; then to the dead letters, replayable.
        """
        setup = self._setup
        again = put_off(delivery, now=self._clock.wall(), timeout=setup.unknown_task_timeout, limits=setup.limits)
        if again is not None:
            return Conclusion(attempt=None, state="UNKNOWN", follow_ups=(again,), settlement=Ack(delivery))
        return self.stranded(delivery, f"unknown task {message.task!r}")

    def stranded(self, delivery: Delivery, reason: str) -> Conclusion:
        """The end of a task that nobody knows: the dead letters, and nobody shall wait for it in vain."""
        setup = self._setup
        message = decode_task(delivery.content, limits=setup.limits, accept=setup.accept)
        error = NotRegistered(message.task)
        ignore = setup.ignore_result if message.ignore_result is None else message.ignore_result
        record = None
        if not ignore:
            record = self._records.encode(message, "FAILURE", describe_exception(error), queue=delivery.queue)
        dead = self.bury(delivery, reason)
        sequel = self._continuation.after_failure(message, error, None, store=not ignore)
        return Conclusion(attempt=None, state="UNKNOWN", sequel=sequel, record=record, settlement=dead, error=error)

    def lost_before(self, attempt: Attempt) -> Conclusion:
        """The end of a task that a worker had acknowledged, and was lost with. Its message says what that counts as."""
        try:
            described = loads((attempt.message.lost or "").encode(), limits=self._setup.limits)
        except DecodeError:
            described = None
        error = self._exceptions.revive(described, traceback=None)
        return self._failure(attempt, error, settlement=Ack(attempt.delivery))

    def _again(self, attempt: Attempt, *, due: float | None, retries: int) -> Publication:
        eta = None if due is None else datetime.fromtimestamp(due, UTC)
        content, limits = attempt.delivery.content, self._setup.limits
        message = retry_of(content, attempt.message, eta=eta, retries=retries, limits=limits)
        return Publication(message=message, queue=attempt.delivery.queue, not_before=due)

    def bury(self, delivery: Delivery, reason: str, *, attempts: int = 1) -> Dead:
        """The settlement that sends a delivery to the dead letters of its queue."""
        at = self._clock.wall()
        return Dead(
            delivery, dead_letter(delivery.content, queue=delivery.queue, reason=reason, at=at, attempts=attempts)
        )


def _reason(retry: Retry, text: str) -> BaseException:
    """Why a task fails that may not be tried again."""
    return MaxRetriesExceededError(text) if retry.exc is None else retry.exc


def _unrecorded(attempt: Attempt, outcome: Ignored | NotStarted) -> Conclusion:
    if isinstance(outcome, Ignored):
        return Conclusion(attempt=attempt, state="IGNORED", settlement=_ack(attempt))
    return Conclusion(attempt=attempt, state="INTERRUPTED", settlement=GiveBack(attempt.delivery))


def _ack(attempt: Attempt) -> Settlement | None:
    return None if attempt.acknowledged else Ack(attempt.delivery)


def wants_retry(exc: BaseException, options: TaskOptions) -> bool:
    """Whether the task is to be tried again by itself after it has raised this."""
    return (
        isinstance(exc, options.retry_on)
        and not isinstance(exc, options.dont_retry_on)
        and not isinstance(exc, InvalidArguments)
    )


def backoff(options: TaskOptions, retries: int, dice: random.Random) -> float:
    """Seconds before the next attempt: exponential from `retry_backoff`, capped, with full jitter."""
    # The exponent is bounded so that a task without `max_retries` never computes 2.0 ** 1024.
    delay = min(options.retry_backoff_max, options.retry_backoff * 2.0 ** min(retries, 64))
    return dice.uniform(0, delay) if options.retry_jitter else delay


def traceback_text(exc: BaseException) -> str:
    """Return the traceback as Python prints it. The executor has cut it down to the user's own frames."""
    return "".join(traceback.format_exception(exc))
