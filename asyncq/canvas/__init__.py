"""Canvas, sans I/O: signatures as data, and what must be sent for them, as Celery 5.7 has it.

`_nodes` reads and writes signature dicts, `_planning` turns one into the messages that start it. Client and worker use
the same planner: the one for what a user sends, the other for what follows from a task's end.
"""

from asyncq.canvas._nodes import ChainNode, ChordNode, GroupNode, Node, TaskNode, read_node
from asyncq.canvas._planning import Links, Opening, Planner, Sending, Step, result_id, size_of

__all__ = [
    "ChainNode",
    "ChordNode",
    "GroupNode",
    "Links",
    "Node",
    "Opening",
    "Planner",
    "Sending",
    "Step",
    "TaskNode",
    "read_node",
    "result_id",
    "size_of",
]
