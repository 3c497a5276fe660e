"""The rest of a very long chain, kept apart from its messages.

Each message of a chain holds all steps that come after it, which is quadratic work for the whole. Where a chain is long
enough, its steps are cut into pieces; each but the first is kept as a fact under a key, and the piece before it ends in
a step that names the key (`CHAIN_REST`). Celery's workers know no such step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from msgspec.structs import replace

from asyncq.canvas import Document, Sending, TaskNode
from asyncq.driver import Coordination, Fact
from asyncq.errors import DecodeError, SignatureError
from asyncq.protocol import dumps, loads

__all__ = ["CHAIN_REST", "Pieces", "cut", "keep_rest", "load_rest"]

#: The task that goes on with the next piece. Its arguments by name: `key`, and `last`, the signature of the last step,
#: so that a failure on the way can be told to those who wait for that.
CHAIN_REST = "asyncq.chain_rest"


#: Steps that are kept, by key; the next one last.
Pieces: TypeAlias = dict[str, list[Document]]


def cut(
    sending: Sending, longest: int, new_id: Callable[[], str], queue_of: Callable[[Document], str]
) -> tuple[Sending, Pieces]:
    """The message of a chain with fewer than `longest` steps behind it, and the rest in pieces.

    `queue_of` says where a step goes: the step that names a piece goes where the first step of that piece does.
    """
    steps = list(sending.links.chain or ())
    if len(steps) <= longest:
        return sending, {}
    size = max(1, longest // 2)
    last, options = steps[0], {"reply_to": sending.links.reply_to}
    pieces: Pieces = {}
    behind: list[Document] = []
    # From the end on, since each piece names the one behind it.
    while len(steps) > size:
        begin = len(steps) % size or size
        piece, steps = [*behind, *steps[:begin]], steps[begin:]
        key = new_id()
        pieces[key] = piece
        place = {**options, "task_id": new_id(), "queue": queue_of(piece[-1])}
        behind = [TaskNode(task=CHAIN_REST, kwargs={"key": key, "last": last}, options=place).to_dict()]
    return replace(sending, links=replace(sending.links, chain=[*behind, *steps])), pieces


async def keep_rest(coordination: Coordination, pieces: Mapping[str, Sequence[Document]], *, ttl: float) -> None:
    """Keep pieces for `ttl` seconds. Raises EncodeError, BrokerError, BackendError."""
    await coordination.put(
        [Fact(key=f"chain.{key}", value=dumps(list(piece)), ttl=ttl) for key, piece in pieces.items()]
    )


async def load_rest(coordination: Coordination, key: str) -> list[Document]:
    """The steps, the next one last. Raises SignatureError when they are there no more, BrokerError, BackendError."""
    [raw] = await coordination.get([f"chain.{key}"])
    try:
        steps: object = None if raw is None else loads(raw)
    except DecodeError as error:
        raise SignatureError(f"the rest of a long chain can't be read: {error}") from error
    if not isinstance(steps, list):
        raise SignatureError("the rest of a long chain is kept no more")
    return cast("list[Document]", steps)
