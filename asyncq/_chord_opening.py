"""What a result backend is told of a chord before its header goes out: by a client, or by a worker."""

from __future__ import annotations

from asyncq.canvas import Opening, ResultTree
from asyncq.driver import ChordOpening
from asyncq.errors import ConfigurationError
from asyncq.protocol import Limits, SavedGroup, encode_group

__all__ = ["cannot_join", "chord_opening"]


def cannot_join(backend: str) -> ConfigurationError:
    """What is said of a chord where the backend of this name can't bring its parts together."""
    return ConfigurationError(
        f"a chord (a group that something follows) needs a result backend that brings its parts together, which "
        f"{backend} doesn't: AsyncQ(…, backend=…) takes redis://, sqlite://, memory:// or dynamodb://"
    )


def chord_opening(
    opening: Opening, *, serializer: str, compression: str | None, limits: Limits, expires: float | None
) -> ChordOpening:
    """The opening as a backend takes it; `expires` is in seconds. Raises EncodeError."""
    saved = None
    if opening.members is not None:
        group = SavedGroup(group_id=opening.group_id, members=[_saved(each) for each in opening.members])
        saved = encode_group(group, serializer=serializer, compression=compression, limits=limits)
    return ChordOpening(group_id=opening.group_id, size=opening.size, saved=saved, expires=expires)


def _saved(tree: ResultTree) -> str | SavedGroup:
    if tree.members is None:
        return tree.id
    return SavedGroup(group_id=tree.id, members=[_saved(each) for each in tree.members])
