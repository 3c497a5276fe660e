"""Where settings come from, which source wins, and what an error may show."""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from asyncq import AsyncQ, ConfigurationError
from asyncq._settings import CELERY_NAMES, Settings, SettingsOptions
from asyncq._settings_sources import load_settings

CANARY = "s3cr3t-canary"


def test_each_source_beats_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = AsyncQ("shop")
    sources: list[tuple[str, Callable[[], Any]]] = [
        ("sqlite://", lambda: None),
        ("redis://redis-url", lambda: monkeypatch.setenv("REDIS_URL", "redis://redis-url")),
        ("redis://config", lambda: None),
        ("redis://celery-env", lambda: monkeypatch.setenv("CELERY_BROKER_URL", "redis://celery-env")),
        ("redis://asyncq-env", lambda: monkeypatch.setenv("ASYNCQ_BROKER", "redis://asyncq-env")),
    ]
    config: dict[str, Any] = {}
    for expected, prepare in sources:
        prepare()
        if expected == "redis://config":
            config["broker_url"] = expected
        queue = AsyncQ("shop")
        queue.config_from_object(config)
        assert queue.settings.broker == expected
    queue = AsyncQ("shop", broker="redis://constructor")
    queue.config_from_object(config)
    assert queue.settings.broker == "redis://constructor"


def test_celerys_result_backend_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://results")
    assert load_settings({"broker": "redis://h"}).backend == "redis://results"


@pytest.mark.parametrize(
    ("broker", "backend"),
    [
        (None, "sqlite://"),
        ("sqlite:///tmp/x.sqlite", "sqlite:///tmp/x.sqlite"),
        ("memory://", "memory://"),
        ("redis://h", None),
    ],
)
def test_only_the_embedded_brokers_carry_results_unasked(broker: str | None, backend: str | None) -> None:
    assert load_settings({"broker": broker}).backend == backend


def test_results_can_be_switched_off() -> None:
    assert load_settings({"backend": "disabled"}).backend is None


def test_redis_url_serves_both_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://r")
    settings = load_settings({})
    assert (settings.broker, settings.backend) == ("redis://r", "redis://r")
    assert load_settings({"broker": "redis://other"}).backend is None
    settings = load_settings({"backend": "redis://results"})
    assert (settings.broker, settings.backend) == ("redis://r", "redis://results")


def test_a_short_word_is_a_scheme_and_a_list_is_for_failover() -> None:
    assert load_settings({"broker": "redis"}).broker == "redis://"
    assert load_settings({"broker_url": ["redis://a", "redis://b"]}).broker == "redis://a;redis://b"


def test_asyncqs_name_or_celerys_but_not_both() -> None:
    assert load_settings({"concurrency": 5}).concurrency == 5
    assert load_settings({"worker_concurrency": 5}).concurrency == 5
    with pytest.raises(TypeError, match="'concurrency' and 'worker_concurrency', which are the same setting"):
        AsyncQ("shop", concurrency=5, worker_concurrency=5)


def test_an_unknown_setting_is_a_type_error_that_helps() -> None:
    with pytest.raises(TypeError, match="no setting 'concurency'; did you mean 'concurrency'"):
        AsyncQ("shop", concurency=5)  # type: ignore[call-arg]  # the case under test
    with pytest.raises(TypeError, match=r"no setting 'xyzzy'$"):
        load_settings({"xyzzy": 1})


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"result_expires": timedelta(hours=1)}, "result_expires", 3600.0),
        ({"result_expires": 0}, "result_expires", None),
        ({"result_expires": None}, "result_expires", None),
        ({"result_expires": "60"}, "result_expires", 60.0),
        ({"lease": timedelta(seconds=5)}, "lease", 5.0),
        ({"concurrency": "12"}, "concurrency", 12),
        ({"acks_late": "off"}, "acks_late", False),
        ({"acks_late": "yes"}, "acks_late", True),
        ({"accept_content": ["application/json", "msgpack"]}, "accept_content", ("json", "msgpack")),
        ({"include": "a, b"}, "include", ("a", "b")),
        ({"timezone": ZoneInfo("Europe/Paris")}, "timezone", "Europe/Paris"),
        ({"concurrency": None}, "concurrency", 100),
    ],
)
def test_values_as_people_write_them(given: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(load_settings(given), field) == expected


def test_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCQ_CONCURRENCY", "7")
    monkeypatch.setenv("ASYNCQ_TRACK_STARTED", "true")
    monkeypatch.setenv("ASYNCQ_INCLUDE", "shop.tasks,shop.more")
    monkeypatch.setenv("ASYNCQ_BROKER_TRANSPORT_OPTIONS", '{"visibility_timeout": 60}')
    monkeypatch.setenv("ASYNCQ_ROUTES", '{"shop.*": "slow"}')
    monkeypatch.setenv("ASYNCQ_LEASE", "")
    settings = load_settings({})
    assert settings.concurrency == 7
    assert settings.track_started
    assert settings.include == ("shop.tasks", "shop.more")
    assert settings.broker_transport_options == {"visibility_timeout": 60}
    assert settings.routes == {"shop.*": "slow"}
    assert settings.lease == 60.0


def test_times_on_the_wire() -> None:
    assert load_settings({}).tzinfo is UTC
    assert load_settings({"timezone": "Asia/Kolkata"}).tzinfo == ZoneInfo("Asia/Kolkata")
    assert load_settings({"enable_utc": False}).tzinfo.utcoffset(None) is not None
    with pytest.raises(ConfigurationError, match="timezone=: is no time zone"):
        load_settings({"timezone": "Mars/Olympus"})


def test_the_apps_own_compressions_can_be_read_again() -> None:
    limits = load_settings({"compression": "bzip2", "result_compression": "lzma"}).limits
    assert {"zlib", "bzip2", "lzma"} <= limits.compressions


def test_an_error_names_the_place_where_the_value_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="worker_concurrency=: Input should be"):
        load_settings({"worker_concurrency": "many"})
    queue = AsyncQ("shop")
    with pytest.raises(ConfigurationError, match="worker_concurrency in the config object: Input"):
        queue.config_from_object({"CELERYD_CONCURRENCY": "many"})
    monkeypatch.setenv("ASYNCQ_CONCURRENCY", "many")
    with pytest.raises(ConfigurationError, match="environment variable ASYNCQ_CONCURRENCY: Input should be"):
        load_settings({})


SECRET_SETTINGS: list[dict[str, Any]] = [
    {"broker": f"redis://:{CANARY}@h"},
    {"backend": f"redis://:{CANARY}@h"},
    {"broker_url": [f"redis://:{CANARY}@h", f"redis://:{CANARY}@i"]},
    {"broker_transport_options": {"password": CANARY}},
    {"result_backend_transport_options": {"password": CANARY}},
    {"broker_use_ssl": {"ssl_keyfile_password": CANARY}},
    {"redis_backend_use_ssl": {"ssl_keyfile_password": CANARY}},
]


@pytest.mark.parametrize("given", SECRET_SETTINGS, ids=lambda given: next(iter(given)))
def test_secrets_are_in_no_text(given: dict[str, Any]) -> None:
    queue = AsyncQ("shop", **given)
    for text in (repr(queue), str(queue), repr(queue.settings), str(queue.settings)):
        assert CANARY not in text


def texts_of(error: BaseException | None) -> str:
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(texts)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
@pytest.mark.parametrize("value", [CANARY, {CANARY: CANARY}, [{CANARY: CANARY}]], ids=["text", "dict", "list"])
def test_no_error_shows_a_value(name: str, value: Any) -> None:
    shown = ""
    try:
        AsyncQ("shop", **{name: value})
    except ConfigurationError as error:
        shown = texts_of(error)
    # Names of queues are no secrets, and an error must say which one is wrong.
    assert CANARY not in shown or name in {"queues", "routes"}


def test_no_error_about_the_environment_shows_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER_TRANSPORT_OPTIONS", "QUEUES", "CONCURRENCY", "BROKER_USE_SSL"):
        monkeypatch.setenv(f"ASYNCQ_{name}", f'{{"password": "{CANARY}"')
    with pytest.raises(ConfigurationError) as caught:
        load_settings({})
    assert CANARY not in texts_of(caught.value)


def test_the_constructors_keywords_are_the_settings() -> None:
    keywords = {*typing.get_type_hints(SettingsOptions)}
    assert keywords == {*Settings.model_fields, *CELERY_NAMES.values()} - {"broker", "backend"}


def test_one_death_convicts_nobody() -> None:
    with pytest.raises(ConfigurationError, match="max_deliveries=: Input should be greater than or equal to 2"):
        AsyncQ("shop", broker="memory://", max_deliveries=1)


def test_a_source_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="broker=: must be a URL, a broker, or a callable"):
        load_settings({"broker": 5})
    with pytest.raises(ConfigurationError, match="backend=: must be a URL, a result backend, or a callable"):
        load_settings({"backend": 5})
