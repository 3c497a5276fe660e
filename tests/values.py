"""Hypothesis strategies for what travels: users' values, messages, records."""

from __future__ import annotations

import math
from datetime import UTC, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from asyncq.protocol import Properties, ResultRecord, TaskMessage

#: What JSON has types for, with all that Python's json writes: NaN, big integers, lone surrogates (low ones: a high
#: one before a low one would come back as the character that they make).
json_atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**60, max_value=2**90)
    | st.floats()
    | st.text(max_size=20)
    | st.text(st.characters(min_codepoint=0xDC00, max_codepoint=0xDFFF), max_size=3)
)

#: The types that Celery's markers add.
marked = (
    st.datetimes(timezones=st.none() | st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))]))
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC))
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.binary(max_size=20)
)


def nested(atoms: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        atoms,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )


plain_values = nested(json_atoms)
values = nested(json_atoms | marked)

_names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=30)
_maybe_names = st.none() | _names
_times = st.none() | st.datetimes(timezones=st.just(UTC))
_limits = st.none() | st.integers(0, 10**6) | st.floats(0, 1e6)
_counts = st.integers(0, 2**31 - 1)
_signatures = st.fixed_dictionaries(
    {"task": _names, "args": st.lists(plain_values, max_size=2), "options": st.just({}), "immutable": st.booleans()}
)
_links = st.none() | st.lists(_signatures, max_size=2)

properties = st.builds(
    Properties,
    correlation_id=_names,
    reply_to=st.text(st.characters(codec="utf-8"), max_size=20),
    priority=st.integers(0, 255),
    delivery_mode=st.sampled_from([1, 2]),
    expiration=st.none() | st.integers(0, 10**9).map(str),
)

#: Messages that say all that a sender would otherwise fill in.
messages = st.builds(
    TaskMessage,
    task=_names,
    id=_names,
    args=st.lists(values, max_size=3),
    kwargs=st.dictionaries(st.text(max_size=8), values, max_size=3),
    lang=_names,
    shadow=_maybe_names,
    eta=_times,
    expires=_times,
    group=_maybe_names,
    group_index=st.none() | _counts,
    retries=_counts,
    time_limit=_limits,
    soft_time_limit=_limits,
    root_id=_names,
    parent_id=_maybe_names,
    argsrepr=_names,
    kwargsrepr=_names,
    origin=_maybe_names,
    ignore_result=st.none() | st.booleans(),
    replaced_task_nesting=_counts,
    stamped_headers=st.none() | st.lists(_names, max_size=2),
    stamps=st.dictionaries(_names, values, max_size=2),
    callbacks=_links,
    errbacks=_links,
    chain=_links,
    chord=st.none() | _signatures,
    properties=properties,
    compression=st.none() | st.just("zlib"),
)

records = st.builds(
    ResultRecord,
    task_id=_names,
    status=_names,
    result=values,
    traceback=st.none() | st.text(max_size=30),
    children=st.none() | st.lists(st.tuples(st.tuples(_names, st.none()).map(list), st.none()).map(list), max_size=2),
    date_done=_times,
    group_id=_maybe_names,
    parent_id=_maybe_names,
    extra=st.dictionaries(st.sampled_from(["name", "args", "kwargs", "worker", "queue"]), values, max_size=3),
)


def same(one: Any, other: Any) -> bool:
    """Equal, of equal types, and NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
