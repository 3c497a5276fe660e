"""What people see of arguments."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncq.protocol import shape_of_args, shape_of_kwargs
from values import values


class Model:
    def __repr__(self) -> str:
        raise AssertionError("nobody may ask")

    def __len__(self) -> int:
        raise AssertionError("nobody may ask")


def test_positional_arguments() -> None:
    assert shape_of_args(()) == "()"
    assert shape_of_args((2,)) == "(<int>,)"
    assert shape_of_args([True, None, 2.5]) == "(<bool>, None, <float>)"
    assert shape_of_args(["abc", b"ab", [1], {"a": 1}, {1}, ()]) == (
        "(<str 3>, <bytes 2>, <list 1>, <dict 1>, <set 1>, <tuple 0>)"
    )
    assert shape_of_args([Model(), datetime(2030, 1, 2, tzinfo=UTC)]) == "(<Model>, <datetime>)"


def test_keyword_arguments() -> None:
    assert shape_of_kwargs({}) == "{}"
    assert shape_of_kwargs({"url": "https://x", "n": 1}) == "{'url': <str 9>, 'n': <int>}"


def test_names_that_look_like_secrets_hide_even_the_size() -> None:
    for name in ("password", "user_passwd", "API_KEY", "access_token", "clientSecret", "Authorization", "session_id"):
        assert shape_of_kwargs({name: "hunter2"}) == f"{{{name!r}: <secret>}}"


def test_the_text_is_bounded() -> None:
    assert len(shape_of_args(["x"] * 100_000)) <= 1024
    assert shape_of_args(["x"] * 100_000).endswith("...)")
    assert len(shape_of_kwargs({f"name{number}": number for number in range(10_000)})) <= 1024
    assert len(shape_of_kwargs({"n" * 5000: 1})) <= 1024


@settings(max_examples=50, deadline=None)
@given(args=st.lists(values, max_size=3), secret=st.text("xyzq", min_size=12, max_size=20))
def test_no_value_is_ever_told(args: list[object], secret: str) -> None:
    for shape in (
        shape_of_args([secret, [secret], {secret: secret}, *args]),
        shape_of_kwargs({"a": secret, "b": [secret], "c": args}),
    ):
        assert secret not in shape
        assert len(shape) <= 1024
