"""Ids as Celery makes them."""

from __future__ import annotations

import uuid

from asyncq._clock import new_id


def test_an_id_is_a_random_uuid() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for text in ids:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)
    # Every other digit is random: none is the same in all of them.
    varying = [position for position in range(36) if len({text[position] for text in ids}) > 1]
    assert [position for position in range(36) if position not in varying] == [8, 13, 14, 18, 23]
