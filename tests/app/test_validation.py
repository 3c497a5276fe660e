"""Arguments are checked against the signature, parameter by parameter."""

from __future__ import annotations

import dataclasses
import enum
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar
from uuid import UUID

import pydantic
import pytest

from asyncq._context import Context
from asyncq._definition import TaskDefinition, TaskOptions
from asyncq._parameters import takes_context
from asyncq._validation import Validator, build_validator, dump_result
from asyncq.errors import EncodeError, InvalidArguments

if TYPE_CHECKING:
    from fractions import Fraction as Unknown

    import asyncq._context as elsewhere


def validator_of(fn: Callable[..., Any]) -> Validator | None:
    return build_validator(
        TaskDefinition(
            name="shop.task", fn=fn, is_coroutine=False, takes_context=takes_context(fn), options=TaskOptions()
        )
    )


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    validate = validator_of(fn)
    assert validate is not None
    values, names = validate(list(args), kwargs)
    return fn(*values, **names)


class Colour(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    name: str
    price: Decimal = Decimal(0)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime


class Aliased(pydantic.BaseModel):
    name: str = pydantic.Field(alias="theName")


@dataclasses.dataclass
class Point:
    x: int
    y: int
    colour: Colour = Colour.RED


T = TypeVar("T")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Opaque:
    pass


def add(a: int, b: int) -> Any:
    return a + b


def test_fitting_arguments_pass_unchanged() -> None:
    validate = validator_of(add)
    assert validate is not None
    args = [1, 2]
    assert validate(args, {}) == ([1, 2], {})
    assert validate([1], {"b": 2}) == ([1], {"b": 2})


def test_the_messages_own_lists_stay_as_they_were() -> None:
    def fn(when: datetime, item: Item) -> Any:
        return when, item

    validate = validator_of(fn)
    assert validate is not None
    args = ["2030-01-02T03:04:05Z"]
    kwargs = {"item": {"name": "x"}}
    validate(args, kwargs)
    assert args == ["2030-01-02T03:04:05Z"]
    assert kwargs == {"item": {"name": "x"}}


@pytest.mark.parametrize(
    ("annotation", "sent", "expected"),
    [
        (int, "3", 3),
        (float, 1, 1.0),
        (datetime, "2030-01-02T03:04:05+00:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (datetime, datetime(2030, 1, 2), datetime(2030, 1, 2)),  # noqa: DTZ001 - a Celery client sends naive ones too
        (timedelta, "PT90S", timedelta(seconds=90)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (Decimal, "1.10", Decimal("1.10")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 2, 2], {1, 2}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (Colour, "red", Colour.RED),
        (Item, {"name": "x", "price": "1.5"}, Item(name="x", price=Decimal("1.5"))),
        (list[Item], [{"name": "x"}], [Item(name="x")]),
        (Box[int], {"content": "7"}, Box[int](content=7)),
        (Strict, {"when": "2030-01-02T03:04:05Z"}, Strict(when=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))),
        (Aliased, {"theName": "x"}, Aliased(theName="x")),
        (Aliased, {"name": "x"}, Aliased(theName="x")),
        (Point, {"x": 1, "y": "2", "colour": "red"}, Point(1, 2)),
        (Item | None, None, None),
        (Annotated[int, pydantic.Field(gt=0)], 1, 1),
    ],
)
def test_values_arrive_as_their_types(annotation: Any, sent: Any, expected: Any) -> None:
    def fn(value: Any) -> Any:
        return value

    fn.__annotations__["value"] = annotation
    arrived = call(fn, sent)
    assert arrived == expected
    assert type(arrived) is type(expected)
    assert call(fn, value=sent) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ([1, "x"], {}, "shop.task: b: Input should be a valid integer, unable to parse string as an integer"),
        ([1], {"b": None}, "shop.task: b: Input should be a valid integer"),
        ([1], {}, "shop.task: missing argument 'b'"),
        ([1, 2, 3], {}, "shop.task: takes at most 2 positional arguments, 3 were given"),
        ([1, 2], {"c": 1}, "shop.task: unexpected argument 'c'"),
        ([1, 2], {"b": 1}, "shop.task: argument 'b' was given twice"),
    ],
)
def test_a_mismatch_names_the_field(args: list[Any], kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        call(add, *args, **kwargs)
    assert str(caught.value) == text


def test_a_mismatch_inside_a_model_names_the_path_and_never_shows_the_value() -> None:
    def fn(items: list[Item]) -> None: ...

    with pytest.raises(InvalidArguments) as caught:
        call(fn, [{"name": "ok"}, {"name": {"password": "canary"}, "price": "canary"}])
    text = str(caught.value)
    assert "items.1.name: " in text
    assert "items.1.price: " in text
    assert "canary" not in text
    assert caught.value.__suppress_context__


def test_many_complaints_are_cut() -> None:
    def fn(numbers: list[int]) -> None: ...

    with pytest.raises(InvalidArguments, match=r"and 95 more$"):
        call(fn, ["x"] * 100)


def test_unannotated_functions_are_checked_for_number_only() -> None:
    def fn(a, b=1, *, c=2):  # type: ignore[no-untyped-def]  # the case under test
        return a, b, c

    value = object()
    assert call(fn, value) == (value, 1, 2)
    assert call(fn, value, c=3) == (value, 1, 3)
    with pytest.raises(InvalidArguments, match="missing argument 'a'"):
        call(fn)
    with pytest.raises(InvalidArguments, match="unexpected argument 'd'"):
        call(fn, 1, d=1)


def test_nothing_to_check_is_none() -> None:
    def anything(*args: Any, **kwargs: Any) -> None: ...

    assert validator_of(anything) is None


def test_keyword_only_and_variadic_parameters() -> None:
    def fn(a: int, /, *rest: int, flag: bool, **others: float) -> Any:
        return a, rest, flag, others

    assert call(fn, "1", "2", "3", flag="true", a="4") == (1, (2, 3), True, {"a": 4.0})
    with pytest.raises(InvalidArguments, match="missing argument 'flag'"):
        call(fn, 1)
    with pytest.raises(InvalidArguments, match="missing argument 'a'"):
        call(fn, a=1, flag=True)
    with pytest.raises(InvalidArguments, match="rest: "):
        call(fn, 1, "x", flag=True)
    with pytest.raises(InvalidArguments, match="others: "):
        call(fn, 1, flag=True, size="x")


def test_the_context_is_no_argument() -> None:
    def fn(ctx: Context, a: int) -> Any:
        return a

    def by_string(ctx: "elsewhere.Context", a: int) -> Any: ...  # noqa: UP037 - quoted twice on purpose

    def not_one(context: int) -> Any: ...

    validate = validator_of(fn)
    assert validate is not None
    assert validate(["1"], {}) == ([1], {})
    assert takes_context(by_string)
    assert not takes_context(not_one)
    assert not takes_context(lambda: None)


def test_an_unknown_annotation_is_warned_of_once_and_spares_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fn(a: Unknown, b: int) -> Any:
        return a, b

    with caplog.at_level(logging.WARNING):
        validate = validator_of(fn)
    (record,) = caplog.records
    assert record.getMessage() == (
        "Task shop.task: values of 'a' are not checked: the annotation can't be resolved "
        "(NameError: name 'Unknown' is not defined)"
    )
    assert validate is not None
    assert validate(["x", "2"], {}) == (["x", 2], {})


def test_a_class_that_pydantic_does_not_know_is_checked_by_instance() -> None:
    def fn(a: Opaque) -> Any:
        return a

    value = Opaque()
    assert call(fn, value) is value
    with pytest.raises(InvalidArguments, match="a: Input should be an instance of Opaque"):
        call(fn, {})


@dataclasses.dataclass
class Waiting:
    other: Unknown


class WaitingModel(pydantic.BaseModel):
    other: Unknown


@pytest.mark.parametrize("annotation", [Waiting, WaitingModel])
def test_a_model_that_waits_for_a_name_is_warned_of_at_start(annotation: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fn(a: Any) -> Any: ...

    fn.__annotations__["a"] = annotation
    with caplog.at_level(logging.WARNING):
        validator_of(fn)
    assert "values of 'a' are not checked" in caplog.text


# -- what goes out -------------------------------------------------------------------------------------------


def test_models_and_dataclasses_become_plain_values() -> None:
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert dump_result(Item(name="x", price=Decimal("1.5"))) == {"name": "x", "price": "1.5"}
    assert dump_result(Point(1, 2)) == {"x": 1, "y": 2, "colour": "red"}
    assert dump_result([{"at": Strict(when=when)}]) == [{"at": {"when": "2030-01-02T03:04:05Z"}}]
    assert dump_result((Aliased(theName="x"),)) == [{"name": "x"}]


def test_what_holds_no_model_is_not_copied() -> None:
    when = datetime(2030, 1, 2, tzinfo=UTC)
    for value in (1, "x", None, [1, [2, {"a": when}]], {"a": (1, 2)}, when, object()):
        assert dump_result(value) is value


def test_a_round_trip_gives_equal_models() -> None:
    for value in (Item(name="x"), Point(1, 2), Aliased(theName="x"), Box[list[int]](content=[1])):

        def fn(a: Any) -> Any:
            return a

        fn.__annotations__["a"] = type(value)
        assert call(fn, dump_result(value)) == value


def test_a_model_that_does_not_serialise_is_an_encode_error() -> None:
    class Holder(pydantic.BaseModel):
        content: Any

    with pytest.raises(EncodeError, match="Holder can't be turned into JSON"):
        dump_result([Holder(content=object())])
