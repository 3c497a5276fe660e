"""Chords in the worker: opened, their parts handed in, and ended when all of them are there.

Whoever hands in the last part gets the claim, and ends the chord: the body is sent, or its failure is stored, and the
chord is closed. Where he dies on the way, any worker that looks for overdue chords does it instead. So a body may be
sent twice; a second sending is known by its header, and dropped where it would start (`_dispatches`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import anyio
import msgspec
from msgspec.structs import replace

from asyncq.canvas import ChordPolicy, split_policy
from asyncq.driver import CLAIM_WHILE_SENDING, ChordClaim, ChordOpening, ChordPart, Chords
from asyncq.errors import (
    BackendConnectionError,
    BackendError,
    BackendFull,
    ChordError,
    ConfigurationError,
    DecodeError,
    ProtocolError,
)
from asyncq.protocol import Part, decode_group, decode_part, describe_exception, encode_part, loads
from asyncq.worker._backoff import Backoff
from asyncq.worker._conclusion import ChordEnd, Conclusion
from asyncq.worker._continuation import Continuation, dependency_text
from asyncq.worker._dispatches import dispatch_name
from asyncq.worker._sequel import Completion, Sequel
from asyncq.worker._setup import WorkerSetup

logger = logging.getLogger("asyncq.worker")

# `Any` below: results of the user's tasks.

T = TypeVar("T")

#: Seconds between two looks for overdue chords, on average; and where a look costs money.
INTERVAL, _BILLED_INTERVAL = 10.0, 60.0

#: Overdue chords that are taken at a time, and chords whose parts are read side by side.
_MOST_OVERDUE, _SIDE_BY_SIDE = 100, 16


class _HeaderFailed(Exception):
    """The body must not run."""

    def __init__(self, text: str, cause: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.cause = cause


class ChordKeeper:
    """One worker's way to the chords of its result backend; while that is away, it waits."""

    def __init__(self, chords: Chords, setup: WorkerSetup, continuation: Continuation) -> None:
        self._chords = chords
        self._setup = setup
        self._continuation = continuation
        self._clock = setup.environment.clock
        self._dice = setup.environment.random
        self._backoff = Backoff(self._dice)
        self._accept = tuple({*setup.accept, setup.result_serializer})

    async def open(self, openings: Sequence[ChordOpening]) -> None:
        """Expect the parts of chords. Raises BackendError when the backend refuses that for good."""
        await self._patiently(lambda: self._chords.open(openings))

    async def grow(self, group_id: str, by: int, *, name: str) -> None:
        """Expect more parts, once by each name. Raises BackendError as `open`."""
        await self._patiently(lambda: self._chords.grow(group_id, by, name=name, expires=self._setup.chord_expires))

    async def hand_in(self, parts: Sequence[ChordPart]) -> list[Conclusion]:
        """Hand in parts; return the ends of those chords that are complete now."""
        try:
            claims = await self._patiently(lambda: self._chords.join(parts, lease=self._setup.chord_claim))
        except BackendError as error:
            if len(parts) > 1:
                ends = [await self.hand_in([part]) for part in parts]
                return [end for found in ends for end in found]
            # A part that can't be kept must not leave the others waiting: it counts as a failure.
            logger.error("The backend refuses the part of task %s in its chord: %s", parts[0].task_id, error)  # noqa: TRY400 - the text says it all
            claims = await self._hand_in_failure(parts[0], error)
        return await self._ends(claims)

    async def confirm(self, end: ChordEnd) -> None:
        """Get more time to end a chord; notes where somebody else has the claim."""
        now = self._clock.monotonic()
        if not end.lost and now >= end.safe_until:
            end.lost = not await self._patiently(lambda: self._chords.renew(end.claim))
            end.safe_until = now + CLAIM_WHILE_SENDING / 3

    async def close(self, ends: Sequence[ChordEnd]) -> None:
        """They have ended."""
        for end in ends:
            try:
                await self._patiently(lambda end=end: self._chords.close(end.claim))
            except BackendError as error:  # it will be ended again, and its body dropped as a second one
                logger.error("Chord %s can't be closed: %s", end.claim.group_id, error)  # noqa: TRY400 - as above

    def refused(self, end: ChordEnd, reason: Exception) -> Conclusion:
        """The end of a chord whose body can't be sent."""
        return self._failure(end, f"The body can't be sent: {reason}", describe_exception(reason))

    def salvage(self, end: ChordEnd, error: Exception) -> list[Conclusion]:
        """What may still be done for a chord that can't be ended as it should, the better first: its failure; nothing,
        so that it is over.
        """
        return [self.refused(end, error), _conclusion(end, Sequel())]

    async def run(self, put: Callable[[Conclusion], None]) -> None:
        """Look for overdue chords now and then."""
        backend = self._setup.backend
        billed = backend is not None and backend.capabilities.billed
        while True:
            await anyio.sleep((_BILLED_INTERVAL if billed else INTERVAL) * (0.5 + self._dice.random()))
            try:
                claims = await self._chords.overdue(_MOST_OVERDUE, lease=self._setup.chord_claim)
            except BackendError as error:
                logger.debug("Overdue chords can't be looked for: %s", error)
                continue
            if claims:
                logger.info("%d chords are complete, and nobody has sent their bodies: it is done now", len(claims))
            for end in await self._ends(claims):
                put(end)

    # -- how a chord ends --------------------------------------------------------------------------------------

    async def _ends(self, claims: Sequence[ChordClaim]) -> list[Conclusion]:
        ends: list[Conclusion] = []
        for first in range(0, len(claims), _SIDE_BY_SIDE):
            found = await asyncio.gather(*map(self._end, claims[first : first + _SIDE_BY_SIDE]))
            ends += [end for end in found if end is not None]
        return ends

    async def _end(self, claim: ChordClaim) -> Conclusion | None:
        """None where it isn't ours to end, or can't be ended now."""
        try:
            return await self._decide(claim)
        except Exception:  # a fault of ours: the chord becomes overdue, and the worker goes on
            logger.exception("Chord %s can't be ended", claim.group_id)
            return None

    async def _decide(self, claim: ChordClaim) -> Conclusion | None:
        try:
            completion = msgspec.convert(loads(claim.body), Completion)
        except (DecodeError, msgspec.ValidationError) as error:
            logger.error("What was kept of chord %s can't be read: %s", claim.group_id, error)  # noqa: TRY400 - as above
            await self.close([ChordEnd(claim=claim)])
            return None
        end = ChordEnd(claim=claim, completion=completion)
        if completion.fault is not None:
            return self._failure(end, completion.fault, None)
        try:
            results = await self._patiently(lambda: self._results(end))
            await self.confirm(end)
            if end.lost:
                return None
            dispatch = dispatch_name(claim.group_id, claim.token)
            sequel = self._continuation.after_header(completion, results, dispatch=dispatch)
        except _HeaderFailed as failed:
            await self.confirm(end)
            return None if end.lost else self._failure(end, str(failed), failed.cause)
        except (BackendError, ProtocolError, ConfigurationError) as error:
            return self._failure(end, str(error), describe_exception(error))
        except Exception as error:  # whatever a body is: claimed again and again, the chord would never end
            logger.exception("Of the body of chord %s no message can be made", claim.group_id)
            return self._failure(end, f"The body can't be sent: {type(error).__name__}", None)
        return _conclusion(end, sequel)

    def _failure(self, end: ChordEnd, text: str, cause: Mapping[str, Any] | None) -> Conclusion:
        logger.error("The body of chord %s will not run: %s", end.claim.group_id, text)
        if end.completion is None:
            return _conclusion(end, Sequel())
        return _conclusion(end, self._continuation.after_header_failure(end.completion, ChordError(text), cause))

    async def _results(self, end: ChordEnd) -> list[Any]:
        """What the body is called with. Raises _HeaderFailed."""
        _, policy = split_policy({} if end.completion is None else end.completion.body)
        policy = policy or ChordPolicy()
        results: list[Any] = []
        first: Part | None = None
        failed, read_until = 0, self._clock.monotonic() + self._setup.chord_claim / 3
        async for batch in self._chords.members(end.claim):
            for raw in batch:
                part = decode_part(raw, limits=self._setup.limits, accept=self._accept)
                if part.state == "SUCCESS":
                    results.append(part.result)
                    continue
                first = first or part
                if policy.fails_at_once:
                    raise _dependency(first)
                failed += 1
                results.append(_collected(part))
            if self._clock.monotonic() > read_until:  # it takes long: don't let the claim end meanwhile
                await self.confirm(end)
        total = len(results)
        if first is not None and not policy.is_met(total - failed, total):
            raise _HeaderFailed(f"{total - failed} of {total} have succeeded: {_dependency(first)}", _described(first))
        if end.claim.saved is None:
            return results
        group = decode_group(end.claim.saved, limits=self._setup.limits, accept=self._accept)
        return group.arrange(iter(results))

    # -- parts of it -------------------------------------------------------------------------------------------

    async def _hand_in_failure(self, part: ChordPart, error: BackendError) -> list[ChordClaim]:
        setup = self._setup
        member = encode_part(part.task_id, "FAILURE", describe_exception(error), serializer=setup.result_serializer)
        try:
            return await self._patiently(
                lambda: self._chords.join([replace(part, member=member)], lease=setup.chord_claim)
            )
        except BackendError:
            return []

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                result = await call()
            except (BackendConnectionError, BackendFull) as error:
                if not self._backoff.failing:
                    logger.warning("Chords wait for the result backend: %s", error)
                await anyio.sleep(self._backoff.next_delay())
            else:
                if self._backoff.reset():
                    logger.info("The result backend takes parts of chords again")
                return result


def _conclusion(end: ChordEnd, sequel: Sequel) -> Conclusion:
    return Conclusion(attempt=None, state="CHORD", sequel=sequel, chord=end)


def _dependency(part: Part) -> _HeaderFailed:
    described = _described(part)
    return _HeaderFailed(dependency_text(part.task_id, described), described)


def _collected(part: Part) -> dict[str, Any]:
    described = _described(part)
    return {"task_id": part.task_id, "exc_type": described.get("exc_type"), "exc_message": described.get("exc_message")}


def _described(part: Part) -> Mapping[str, Any]:
    result: object = part.result
    if isinstance(result, dict):
        return cast("dict[str, Any]", result)
    return {"exc_type": "Exception", "exc_message": [repr(result)], "exc_module": "builtins"}
