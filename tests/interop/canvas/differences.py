"""Where a canvas comes to something else with asyncq than with Celery alone: each with its reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from interop.canvas.outcomes import NEVER, Outcome

# `Any` below: outcomes, as JSON has them.

#: Stands for the value that it was.
_SAME: Any = object()


class Change(Struct, frozen=True):
    """From what Celery alone makes of a canvas to what it comes to otherwise."""

    value: Any = _SAME
    #: Tasks that are there with Celery alone …
    gone: Sequence[Any] = ()
    #: … and those that are there instead.
    new: Sequence[Any] = ()

    def of(self, outcome: Outcome) -> Outcome:
        """Raises AssertionError where there is nothing to change any more."""
        value = outcome.value if self.value is _SAME else self.value
        tasks = list(outcome.tasks)
        for each in self.gone:
            assert each in tasks, f"Celery no longer leaves {each}, but {tasks}"
            tasks.remove(each)
        changed = Outcome(value, sorted([*tasks, *self.new], key=json.dumps))
        assert changed != outcome, "Celery does the same by now"
        return changed


class Difference(Struct, frozen=True):
    """How a canvas differs."""

    #: The row of docs/celery.md that gives the reason.
    reason: str
    #: With asyncq's client, and Celery's worker.
    client: Change | None = None
    #: With Celery's client, and asyncq's worker.
    worker: Change | None = None
    #: With asyncq's client and a worker of its that decides; where it isn't one change after the other.
    both: Change | None = None
    #: What becomes of it with workers of both kinds depends on who gets which part, and is not compared.
    fickle: bool = False

    def outcomes(self, reference: Outcome, *, client: str, workers: Collection[str]) -> Sequence[Outcome] | None:
        """All that it may come to; None where that is anything."""
        if self.fickle and len(workers) > 1:
            return None
        sent = self.client.of(reference) if self.client is not None and client == "asyncq" else reference
        found = [sent] if "celery" in workers else []
        if "asyncq" in workers:
            if self.both is not None and client == "asyncq":
                found.append(self.both.of(reference))
            else:
                found.append(sent if self.worker is None else self.worker.of(sent))
        return found


_BOOM = {"exc_type": "ValueError", "exc_message": ["boom", 1], "exc_module": "builtins"}

#: What never ran, and has failed.
_FAILED = [[], ["FAILURE", _BOOM]]


def _dependency(task: str, raised: str = "ValueError('boom', 1)") -> str:
    return f"Dependency <{task}> raised {raised}"


def _failed_chord(text: str) -> Any:
    return [[], ["FAILURE", {"exc_type": "ChordError", "exc_message": [text], "exc_module": "celery.exceptions"}]]


def _ran(*call: Any, result: Any) -> Any:
    return [[[*call]], ["SUCCESS", result]]


#: Whose failure `get()` names.
_NAMED = {
    "failure in a header": "fail()",
    "failures in a header": "fail(1)",
    "failure in a header's chain": "never ran",
    "failure at the end of a header's chain": "fail(2)",
    "failure of a body in a header": "fail([2])",
    "failure in a header's group": "fail()",
    "failure before a body's chain": "fail()",
    "failure in a chain's group": "fail(2)",
    "errback of a header's member": "fail()",
    "errback of a body whose header fails": "fail()",
    "errback of a chord whose header fails": "fail()",
    "errback of a chord with a chain for a body": "fail()",
    "errback of a body's chain whose header fails": "fail()",
    "errback of a chain with a group in it": "fail(2)",
    "replaced in a header by what fails": "replace(<fail>)",
}

_INNER = _dependency("fail()")
_OUTER = _dependency("never ran", f'ChordError("{_INNER}")')

_NESTING = "a chord within a chord, whose header fails"

#: A chord whose header has a chord that fails.
_NESTED = Difference(
    _NESTING,
    client=Change(value=NEVER),
    worker=Change(new=[_failed_chord(_OUTER)]),
    both=Change(value=["ChordError", [_OUTER]], new=[_failed_chord(_OUTER)]),
)

#: An error link that was called for the last of it.
_TOLD = _ran("by_id", "<result>", result=None)

_RAISED = ["ValueError", ["boom", 1]]

_NUMBERING = "members of a group within a group"
_EMPTY = "`group([])` that something follows"
_BEHIND = "a group behind a step that failed"

_X, _Y = [[2, 4], "x"], [[2, 4], "y"]

#: What follows the second group runs once, and gets a list.
_THREE_GROUPS = Change(
    value=[[[_X, _Y], "z"], [[_X, _Y], "u"]],
    gone=[[[["echo", _X, each], ["echo", _Y, each]], ["SUCCESS", [_X, each]]] for each in "zu"],
    new=[_ran("echo", [_X, _Y], each, result=[[_X, _Y], each]) for each in "zu"],
)

_PAIRS = [[1, 1], [2, 2]]
_CHUNKS = ["celery.chunks", {"task": "<add>", "it": _PAIRS, "n": 1}]
_ENCODE_ERROR = {
    "exc_type": "EncodeError",
    "exc_message": ["TypeError('Object of type GroupResult is not JSON serializable')"],
    "exc_module": "kombu.exceptions",
}
_FAILED_CHUNKS = [[[_CHUNKS], ["FAILURE", _ENCODE_ERROR]], [[], ["FAILURE", _ENCODE_ERROR]]]

#: Where the results of chunks are found.
_CHUNKS_RESULT = [
    ["<never ran>", None],
    [[[f"<celery.starmap({{'task': '<add>', 'it': [{item}]}})>", None], None] for item in _PAIRS],
]

#: Chunks that were sent as the group that they are, and as a task that sends them.
_CHUNKS_SENT = Change(value=[[[2], [4]]], gone=_FAILED_CHUNKS, new=[_ran("echo", [[2], [4]], result=[[[2], [4]]])])
_CHUNKS_RUN = Change(
    value=[_CHUNKS_RESULT],
    gone=_FAILED_CHUNKS,
    new=[_ran(*_CHUNKS, result=_CHUNKS_RESULT), _ran("echo", _CHUNKS_RESULT, result=[_CHUNKS_RESULT])],
)

#: By the name of the canvas.
DIFFERENCES: Mapping[str, Difference] = {
    "group of one at a chain's end": Difference("a group of one at a chain's end", client=Change(value=[12])),
    "group in a group at a chain's end": Difference(_NUMBERING, client=Change(value=[12, 22, 32])),
    "header with a group": Difference(
        _NUMBERING,
        client=Change(
            value=[[0, 2, 4]],
            gone=[_ran("echo", [0, 4, 2], result=[[0, 4, 2]])],
            new=[_ran("echo", [0, 2, 4], result=[[0, 2, 4]])],
        ),
    ),
    "empty group in a chain": Difference(
        _EMPTY,
        client=Change(
            value=[[], 10], gone=[_ran("echo", 2, 10, result=[2, 10])], new=[_ran("echo", [], 10, result=[[], 10])]
        ),
    ),
    "empty group at a chain's beginning": Difference(
        _EMPTY, client=Change(value=[[]], gone=[_ran("echo", result=[])], new=[_ran("echo", [], result=[[]])])
    ),
    "three groups in a row": Difference(
        "a third group in a row", client=_THREE_GROUPS, worker=_THREE_GROUPS, both=_THREE_GROUPS, fickle=True
    ),
    "chunks in a chain": Difference("`chunks` in a chain", client=_CHUNKS_SENT, worker=_CHUNKS_RUN, both=_CHUNKS_SENT),
    **{
        name: Difference(
            "`get()` of a chord whose header has failed", client=Change(value=["ChordError", [_dependency(task)]])
        )
        for name, task in _NAMED.items()
    },
    "failure in a header's chord": _NESTED,
    "errback of a chord in a header": _NESTED,
    "errback of a chord with a chord in its header": Difference(
        _NESTING,
        client=Change(value=NEVER),
        worker=Change(new=[_TOLD, _failed_chord(_OUTER)]),
        both=Change(value=["ChordError", [_OUTER]], new=[_TOLD, _failed_chord(_OUTER)]),
    ),
    "failure before a body's chord": Difference(
        _NESTING,
        client=Change(value=NEVER, new=[_failed_chord(_INNER)]),
        worker=Change(new=[_failed_chord(_INNER)]),
        both=Change(value=["ChordError", [_INNER]], new=[_failed_chord(_INNER)]),
    ),
    "failure before a group": Difference(_BEHIND, worker=Change(value=_RAISED, new=[_FAILED, _FAILED])),
    "failure before a group in a header": Difference(
        _BEHIND,
        worker=Change(value=_RAISED, new=[_FAILED, _FAILED, _failed_chord(_dependency("never ran"))]),
        both=Change(
            value=["ChordError", [_dependency("never ran")]],
            new=[_FAILED, _FAILED, _failed_chord(_dependency("never ran"))],
        ),
        fickle=True,
    ),
    "failure before a chord with a group for a body": Difference(_BEHIND, worker=Change(value=_RAISED, new=[_FAILED])),
    "failure before a chord": Difference("a chord behind a step that failed", worker=Change(gone=[_FAILED])),
    "failure of a body that something follows": Difference("a body that is a chain", client=Change(new=[_FAILED])),
    "errback that is a chain": Difference(
        "an error link that is a chain",
        worker=Change(new=[_ran("bound", "<result>", result=None), _ran("bound", None, "x", result=None)]),
    ),
    "errback of a body's first step whose header fails": Difference(
        "error links of a body that is a chain",
        client=Change(value=["ChordError", [_INNER]]),
        worker=Change(new=[_TOLD]),
    ),
}


def expected_of(name: str, reference: Outcome, client: str, workers: Collection[str]) -> Sequence[Outcome] | None:
    """All that a canvas may come to; None where that is anything."""
    difference = DIFFERENCES.get(name)
    return [reference] if difference is None else difference.outcomes(reference, client=client, workers=workers)
