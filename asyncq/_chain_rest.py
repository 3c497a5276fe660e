"""The rest of a very long chain, kept apart from its messages.

Each message of a chain holds all steps that come after it, which is quadratic work for the whole. Where a chain is long
enough, its steps are cut into pieces; each but the first is kept as a fact under a key, and the piece before it ends in
a step that names the key (`CHAIN_REST`). Celery's workers know no such step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from asyncq.canvas import Document
from asyncq.driver import Coordination, Fact
from asyncq.errors import DecodeError, SignatureError
from asyncq.protocol import dumps, loads

__all__ = ["CHAIN_REST", "keep_rest", "load_rest"]

#: The task that goes on with the next piece. Its arguments by name: `key`, and `last`, the signature of the last step of
#: all, so that a failure on the way can be told to those who wait for that.
CHAIN_REST = "asyncq.chain_rest"


async def keep_rest(coordination: Coordination, key: str, steps: Sequence[Document], *, ttl: float) -> None:
    """Keep steps, the next one last, for `ttl` seconds. Raises EncodeError, BrokerError, BackendError."""
    await coordination.put([Fact(key=f"chain.{key}", value=dumps(list(steps)), ttl=ttl)])


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
