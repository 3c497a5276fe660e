"""The pieces of very long chains, kept apart from their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from asyncq.canvas import Document
from asyncq.driver import Coordination, Fact
from asyncq.errors import DecodeError, SignatureError
from asyncq.protocol import dumps, loads

__all__ = ["keep_rest", "load_rest"]


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
