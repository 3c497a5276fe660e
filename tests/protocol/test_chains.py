"""The chain in a message, of which each task looks at one step."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from asyncq.errors import DecodeError
from asyncq.protocol import TaskMessage, WireMessage, decode_task, encode_task

#: As another library writes them: blanks, escapes, an order of keys, numbers beyond a double.
_ODD = rb'[{"task": "last", "args": ["\u00e4", 1e999]},{ "args":[],"task":"next" , "kwargs":{"b":1,"a":2}}]'


def message(chain: bytes) -> WireMessage:
    body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": %b, "chord": null}]' % chain
    return WireMessage(body, {"task": "t", "id": "i"})


def chain_of(wire: WireMessage) -> bytes:
    """As it stands there."""
    return bytes(msgspec.json.decode(wire.body, type=tuple[Any, Any, dict[str, msgspec.Raw]])[2]["chain"])


def test_steps_that_nobody_looks_at_go_on_as_they_came() -> None:
    found = decode_task(message(_ODD))
    assert found.chain is not None
    assert found.chain[-1] == {"task": "next", "args": [], "kwargs": {"a": 2, "b": 1}}
    later = encode_task(TaskMessage(task="next", id="j", chain=found.chain[:-1]))
    assert chain_of(later) == rb'[{"task": "last", "args": ["\u00e4", 1e999]}]'


def test_beside_arguments_that_take_markers_they_are_the_same() -> None:
    found = decode_task(message(b'[{"task": "a"}, {"task": "\xc3\xa4"}]'))
    later = replace(found, args=[datetime(2026, 1, 1, tzinfo=UTC)])
    assert decode_task(encode_task(later)).chain == [{"task": "a"}, {"task": "ä"}]


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_they_go_on_in_any_serialisation(serializer: str) -> None:
    found = decode_task(message(b'[{"task": "a"}, {"task": "b"}]'))
    later = encode_task(replace(found, serializer=serializer))
    assert decode_task(later, accept=[serializer]).chain == [{"task": "a"}, {"task": "b"}]


@pytest.mark.parametrize(
    "chain",
    [b'[{"task": "a"}, 1]', b'["a"]', b"[[]]", b'[{"task": "\xff"}]', b'[{"task": "\\ud800"]', b'[{"task": nul}]'],
)
def test_what_can_be_no_step_is_refused_before_anybody_looks(chain: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_task(message(chain))
