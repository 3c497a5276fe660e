"""Canvas, sans I/O: signatures as data, and what must be sent for them, as Celery 5.7 has it.

`_nodes` reads and writes signature dicts. `_chaining` makes a chain's steps flat, `_freezing` gives final ids, and
`_planning` yields the messages that start it. Client and worker use the same planner: the one for what a user sends,
the other for what follows from a task's end.
"""

from asyncq.canvas._chaining import has_chord, unchained
from asyncq.canvas._cutting import CHAIN_REST, Cutter, Pieces
from asyncq.canvas._freezing import result_id, size_of
from asyncq.canvas._linking import Document, Links, documents, with_callbacks, with_errbacks
from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode, read_node
from asyncq.canvas._planning import Opening, Planner, Sending, Step
from asyncq.canvas._policies import ChordPolicy, split_policy
from asyncq.canvas._results import ResultTree, child_of, members_of, result_of

__all__ = [
    "CHAIN_REST",
    "ChainNode",
    "ChordNode",
    "ChordPolicy",
    "Cutter",
    "Document",
    "GroupNode",
    "Links",
    "Node",
    "Opening",
    "Pieces",
    "Planner",
    "ResultTree",
    "Sending",
    "Step",
    "TaskNode",
    "child_of",
    "documents",
    "has_chord",
    "members_of",
    "read_node",
    "result_id",
    "result_of",
    "size_of",
    "split_policy",
    "unchained",
    "with_callbacks",
    "with_errbacks",
]
