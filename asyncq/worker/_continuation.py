"""What follows from a task's end in its canvas: messages, chords, records of others. Decides only; `_concluder` acts.

The order is Celery's (canvas.md, 7). Ids are those in the signatures; what has none yet gets one that follows from the
task's own, so that a repeat after a crash sends the same messages once more.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from asyncq._chord_opening import cannot_join, chord_opening
from asyncq._definition import TaskDefinition
from asyncq._validation import dump_result
from asyncq.canvas import (
    CHAIN_REST,
    ChainNode,
    Document,
    GroupNode,
    Node,
    Opening,
    Planner,
    Step,
    TaskNode,
    child_of,
    read_node,
    result_of,
    split_policy,
)
from asyncq.driver import ChordOpening, ChordPart, Joining
from asyncq.errors import ChordError, EncodeError
from asyncq.protocol import (
    DISPATCH_HEADER,
    ExceptionRegistry,
    TaskMessage,
    describe_exception,
    dumps,
    encode_part,
)
from asyncq.worker._errbacks import sort_errbacks
from asyncq.worker._mailer import Mailer
from asyncq.worker._record_encoder import RecordEncoder
from asyncq.worker._replacing import in_place_of
from asyncq.worker._sequel import Batch, Completion, Later, Sequel
from asyncq.worker._setup import WorkerSetup
from asyncq.worker._stand_ins import later_steps, stand_ins

logger = logging.getLogger("asyncq.worker")

# `Any` below: values of the user's tasks, and options of signatures, which anybody may have written.

#: Messages that are made at a time: meanwhile the loop stands still.
MADE_AT_ONCE = 500

#: Of ids that follow from a task's own.
_IDS = uuid.UUID("7d5c6f0e-5f0b-4a53-9e36-0d1f3bfae2c4")


class Continuation:
    """Decides for one worker."""

    def __init__(
        self, setup: WorkerSetup, records: RecordEncoder, mailer: Mailer, tasks: Mapping[str, TaskDefinition]
    ) -> None:
        self._setup = setup
        self._records = records
        self._mailer = mailer
        self._tasks = tasks
        #: Revives what was stored, for errbacks.
        self._exceptions = ExceptionRegistry(setup.exceptions)
        self._joins = isinstance(setup.backend, Joining)
        self._saves_headers = isinstance(setup.backend, Joining) and setup.backend.chords.saves_headers

    # -- ends of a task --------------------------------------------------------------------------------------

    def after_success(self, message: TaskMessage, value: Any, sequel: Sequel | None = None) -> Sequel:
        """Callbacks, the next step of the chain, a chord's part; after what is in `sequel` already.

        Raises EncodeError, DecodeError, SignatureError, ConfigurationError: then the task has failed.
        """
        sequel = sequel or Sequel()
        if message.callbacks or message.chain:
            planner = self._planner(message)
            for node in _callback_nodes(message.callbacks or ()):
                self._add(sequel, planner, node, [value])
            if message.chain:
                self._add(sequel, planner, read_node(message.chain[-1]), [value], chain=message.chain[:-1])
        sequel.parts = self._parts(message, "SUCCESS", value)
        return sequel

    def after_failure(
        self, message: TaskMessage, exc: BaseException, text: str | None, *, store: bool
    ) -> Sequel | None:
        """A chord's part, the later steps of the chain, which fail as well, and errbacks; None where nothing follows.

        `store` says whether the later steps' failures shall be stored. Raises nothing.
        """
        if not (message.errbacks or message.chain or message.chord or message.task == CHAIN_REST):
            return None
        sequel, described = Sequel(), describe_exception(exc)
        self._fail(sequel, message, described, text, store=False)
        self._fail_later_steps(sequel, message, described, text, store=store)
        self._add_errbacks(sequel, message, exc, text)
        return sequel

    def after_revocation(self, message: TaskMessage, exc: BaseException) -> Sequel:
        """A chord's part alone: what comes later stays pending, as with Celery."""
        return Sequel(parts=self._parts(message, "REVOKED", describe_exception(exc)))

    def sent_by(self, message: TaskMessage, node: Node, args: Sequence[Any], *, number: int = 0) -> Sequel:
        """What a running task sends, as its `number`th. Raises as `after_success`."""
        sequel = Sequel()
        self._add(sequel, self._planner(message, f"sent {number}"), node, args)
        return sequel

    def instead_of(self, message: TaskMessage, document: Document) -> Sequel:
        """A signature takes the task's place (canvas.md, 13). Raises as `after_success`."""
        node, rest = in_place_of(message, read_node(document))
        sequel = Sequel()
        self._add(sequel, self._planner(message), node, [], chain=rest)
        return sequel

    # -- ends of a chord -------------------------------------------------------------------------------------

    def after_header(self, completion: Completion, results: Sequence[Any], *, dispatch: str) -> Sequel:
        """The body, with the results of the header. Raises as `after_success`."""
        sequel = Sequel()
        body, _ = split_policy(completion.body)
        node = read_node(body)
        planner = self._planner_of(completion, dispatch)
        self._add(sequel, planner, node, [list(results)], headers={DISPATCH_HEADER: dispatch})
        return sequel

    def after_header_failure(
        self, completion: Completion, error: ChordError, cause: Mapping[str, Any] | None
    ) -> Sequel:
        """The body will not run: its failure, that of what follows it, its errbacks (canvas.md, 11). Raises nothing.

        `cause` describes the failure in the header, which is what the members of a group get, as with Celery.
        """
        sequel = Sequel()
        try:
            node = read_node(completion.body)
            missed = list(stand_ins(node))
        except Exception:  # whatever anybody has written there: who waits for its id is told all the same
            logger.exception("The body of a chord can't be read")
            node = _named(completion.body)
            missed = list(stand_ins(node))
        exc: Exception = error
        described = describe_exception(error)
        if cause is not None and isinstance(node, GroupNode):
            exc, described = self._exceptions.revive(cause, traceback=None), dict(cause)
        for message in missed:
            message.root_id, message.parent_id = completion.root_id, completion.parent_id
            self._fail(sequel, message, described, None, store=True)
            self._add_errbacks(sequel, message, exc, None)
        chain = node.options.get("chain")
        if isinstance(chain, list):
            last = missed[-1].id if missed else completion.parent_id or ""
            after = TaskMessage(
                task=node.task, id=last, root_id=completion.root_id, chain=cast("list[Document]", chain)
            )
            self._fail_later_steps(sequel, after, described, None, store=True)
        return sequel

    # -- parts of it -----------------------------------------------------------------------------------------

    def _add(
        self,
        sequel: Sequel,
        planner: Planner,
        node: Node,
        args: Sequence[Any],
        *,
        chain: Sequence[Document] | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        frozen = planner.freeze(node)

        def make() -> Iterator[Batch]:
            return self._batches(planner.plan(frozen, args, chain=chain), headers)

        begun = make()
        first = next(begun, Batch())
        sequel.first.openings += first.openings
        sequel.first.messages += first.messages
        if len(first.messages) + len(first.openings) == MADE_AT_ONCE:
            sequel.more.append(Later(begun, make))
        sequel.children.append(child_of(result_of(frozen)))

    def _batches(self, steps: Iterator[Step], headers: Mapping[str, Any] | None = None) -> Iterator[Batch]:
        while some := list(itertools.islice(steps, MADE_AT_ONCE)):
            batch = Batch()
            for step in some:
                if isinstance(step, Opening):
                    batch.openings.append(self._opening(step))
                else:
                    batch.messages.append(self._mailer.publication(step, headers=headers))
            yield batch

    def _opening(self, opening: Opening) -> ChordOpening:
        setup = self._setup
        if not self._joins:
            raise cannot_join("an app without a result backend" if setup.backend is None else setup.backend.address)
        return chord_opening(
            opening,
            serializer=setup.result_serializer,
            compression=setup.result_compression,
            limits=setup.limits,
            expires=setup.chord_expires,
        )

    def _parts(self, message: TaskMessage, state: str, result: Any) -> list[ChordPart]:
        """Its part of its chord, where it has one, and somebody to hand it to."""
        if message.chord is None or message.group is None or not self._joins:
            return []
        completion = Completion(body=message.chord, root_id=message.root_id or message.id, parent_id=message.id)
        return [
            ChordPart(
                group_id=message.group,
                task_id=message.id,
                index=message.group_index,
                member=self._member(message.id, state, result),
                body=_kept(completion),
                expires=self._setup.chord_expires,
            )
        ]

    def _member(self, task_id: str, state: str, result: Any) -> bytes:
        setup = self._setup
        serializer, compression = setup.result_serializer, setup.result_compression
        try:
            return encode_part(task_id, state, result, serializer=serializer, compression=compression)
        except EncodeError:
            # Models and dataclasses, which most results are not, are looked for only when the plain way fails.
            dumped = dump_result(result)
            return encode_part(task_id, state, dumped, serializer=serializer, compression=compression)

    def _fail_later_steps(
        self, sequel: Sequel, message: TaskMessage, described: dict[str, Any], text: str | None, *, store: bool
    ) -> None:
        try:
            for step in later_steps(message):
                self._fail(sequel, step, described, text, store=store)
        except Exception:  # whatever anybody has written there: its own failure is told all the same
            logger.exception("What follows %s[%s] can't be read", message.task, message.id)

    def _fail(
        self, sequel: Sequel, message: TaskMessage, described: dict[str, Any], text: str | None, *, store: bool
    ) -> None:
        """The record of something that has failed, and its part of a chord."""
        try:
            record = self._records.encode(message, "FAILURE", described, text, queue="") if store else None
            if record is not None:
                sequel.records.append(record)
            sequel.parts += self._parts(message, "FAILURE", described)
        except EncodeError as error:
            logger.error("The failure of %s[%s] can't be told: %s", message.task, message.id, error)  # noqa: TRY400 - its text says it all

    def _add_errbacks(self, sequel: Sequel, message: TaskMessage, exc: BaseException, text: str | None) -> None:
        """Those that are sent go as one group, as with Celery."""
        if not message.errbacks:
            return
        try:
            calls, sent = sort_errbacks(message, exc, text, self._tasks)
            sequel.errback_calls += calls
            planned = self._planner(message, "errbacks").plan(GroupNode(tasks=sent), [message.id])
            batches = list(self._batches(planned))
        except Exception:  # as above
            logger.exception("The errbacks of %s[%s] can't be sent", message.task, message.id)
            return
        for batch in batches:
            sequel.errbacks.openings += batch.openings
            sequel.errbacks.messages += batch.messages

    def _planner(self, message: TaskMessage, purpose: str = "") -> Planner:
        properties = message.properties
        return Planner(
            new_id=_ids(message.id, f"{message.replaced_task_nesting}{purpose}"),
            reply_to=properties.reply_to,
            parent_id=message.id,
            root_id=message.root_id or message.id,
            priority=properties.priority if self._setup.inherit_parent_priority else None,
            saves_headers=self._saves_headers,
        )

    def _planner_of(self, completion: Completion, dispatch: str) -> Planner:
        """`dispatch` names the chord where its body names nothing."""
        options: Mapping[str, Any] = completion.body.get("options") or {}
        return Planner(
            new_id=_ids(str(options.get("task_id") or options.get("group_id") or dispatch), "body"),
            parent_id=completion.parent_id,
            root_id=completion.root_id,
            saves_headers=self._saves_headers,
        )


def dependency_text(task_id: str, described: Mapping[str, Any] | None) -> str:
    """What a chord's error says of the header task that has failed, in Celery's words."""
    described = described or {}
    name = str(described.get("exc_type") or "Exception").rpartition(".")[2]
    message: object = described.get("exc_message")
    arguments = cast("list[object]", message) if isinstance(message, list | tuple) else [message]
    return f"Dependency {task_id} raised {name}({', '.join(map(repr, arguments))})"


def _named(body: Document) -> TaskNode:
    """What is left of a body that can't be read: what it is called."""
    options: object = body.get("options")
    task_id = cast("Mapping[str, Any]", options).get("task_id") if isinstance(options, Mapping) else None
    return TaskNode(task=str(body.get("task")), options={"task_id": task_id})


def _kept(completion: Completion) -> bytes:
    """The document that is kept with a chord, for whoever ends it.

    A client that pickles may give the body what JSON has no word for; then its id, its chord and its links are kept, by
    which it fails: the members of the header would otherwise fail one by one, and could not even tell the chord.
    """
    try:
        return dumps(msgspec.structs.asdict(completion))
    except EncodeError as error:
        body = cast("Document", _portable(completion.body) or {})
        fault = f"the body can't be kept until its header has ended: {error}"
        return dumps(msgspec.structs.asdict(replace(completion, body=body, fault=fault)))


def _portable(value: object) -> object:
    """What JSON has words for, and nothing in place of the rest."""
    try:
        dumps(value)
    except EncodeError:
        pass
    else:
        return value
    kept: object = None
    if isinstance(value, dict):
        kept = {name: _portable(each) for name, each in cast("dict[object, object]", value).items()}
    elif isinstance(value, list | tuple):
        kept = [_portable(each) for each in cast("Sequence[object]", value)]
    try:
        dumps(kept)
    except EncodeError:  # a name that is none, or the look of a marker
        return None
    return kept


def _ids(task_id: str, purpose: str) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: str(uuid.uuid5(_IDS, f"{task_id} {purpose} {next(numbers)}"))


def _callback_nodes(callbacks: Sequence[Document]) -> Iterable[Node]:
    """One by itself; of several first each group, then all others as one new group. Of an empty chain nothing."""
    nodes = [node for each in callbacks if not (isinstance(node := read_node(each), ChainNode) and not node.tasks)]
    if len(nodes) == 1:
        return nodes
    groups: list[Node] = [node for node in nodes if isinstance(node, GroupNode)]
    others = [node for node in nodes if not isinstance(node, GroupNode)]
    return [*groups, GroupNode(tasks=others)] if others else groups
