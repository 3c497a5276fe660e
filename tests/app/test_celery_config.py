"""`queue.config_from_object`: Celery's names, and what asyncq says of those that it doesn't honour."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asyncq import AsyncQ, ConfigurationError
from asyncq._celery_config import read_celery_config
from asyncq._celery_names import CELERY_SETTINGS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import modules from."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def configured(source: object, **options: Any) -> AsyncQ:
    queue = AsyncQ("shop")
    queue.config_from_object(source, **options)
    return queue


def test_the_names_are_those_of_celery() -> None:
    from celery.app import defaults

    theirs = dict(defaults.flatten(defaults.NAMESPACES))
    assert set(CELERY_SETTINGS) == set(theirs)
    for name, option in theirs.items():
        assert CELERY_SETTINGS[name].default == option.default, name
        old = {pattern.format(name).upper() for pattern in option.old}
        ours = CELERY_SETTINGS[name].old_name
        assert ours is None or len(option.old) == 0 or ours in old | {*option.old}, name


def test_old_names_are_those_that_celery_maps() -> None:
    from celery.app.utils import _TO_NEW_KEY

    for old, new in _TO_NEW_KEY.items():
        if new in CELERY_SETTINGS and old.isupper():
            assert read_celery_config({old: object()}).unknown == {}, old


NEW: dict[str, Any] = {
    "broker_url": "redis://b",
    "result_backend": "redis://r",
    "task_serializer": "msgpack",
    "accept_content": ["json", "msgpack"],
    "task_acks_late": False,
    "task_track_started": True,
    "task_default_queue": "shop",
    "task_routes": {"shop.*": "slow"},
    "result_expires": timedelta(hours=2),
    "worker_concurrency": "8",
    "timezone": "Europe/Paris",
    "imports": ("shop.tasks",),
    "broker_transport_options": {"visibility_timeout": 60},
}
OLD: dict[str, Any] = {
    "BROKER_URL": "redis://b",
    "CELERY_RESULT_BACKEND": "redis://r",
    "CELERY_TASK_SERIALIZER": "msgpack",
    "CELERY_ACCEPT_CONTENT": ["json", "msgpack"],
    "CELERY_ACKS_LATE": False,
    "CELERY_TRACK_STARTED": True,
    "CELERY_DEFAULT_QUEUE": "shop",
    "CELERY_ROUTES": {"shop.*": "slow"},
    "CELERY_TASK_RESULT_EXPIRES": timedelta(hours=2),
    "CELERYD_CONCURRENCY": "8",
    "CELERY_TIMEZONE": "Europe/Paris",
    "CELERY_IMPORTS": ("shop.tasks",),
    "BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 60},
}


@pytest.mark.parametrize(
    ("source", "namespace"),
    [(NEW, None), (OLD, None), ({f"CELERY_{name.upper()}": value for name, value in NEW.items()}, "CELERY")],
    ids=["new", "old", "namespace"],
)
@pytest.mark.parametrize("shape", [dict, types.SimpleNamespace], ids=["mapping", "object"])
def test_every_style_says_the_same(source: dict[str, Any], namespace: str | None, shape: type) -> None:
    given = source if shape is dict else types.SimpleNamespace(**source)
    settings = configured(given, namespace=namespace).settings
    assert settings.broker == "redis://b"
    assert settings.backend == "redis://r"
    assert settings.serializer == "msgpack"
    assert settings.accept_content == ("json", "msgpack")
    assert settings.acks_late is False
    assert settings.track_started
    assert settings.default_queue == "shop"
    assert settings.routes == {"shop.*": "slow"}
    assert settings.result_expires == 7200.0
    assert settings.concurrency == 8
    assert settings.timezone == "Europe/Paris"
    assert settings.modules == ("shop.tasks",)
    assert settings.broker_transport_options == {"visibility_timeout": 60}


def test_a_module_by_name(folder: Path) -> None:
    (folder / "celeryconfig.py").write_text(
        "import os\n"
        "from datetime import timedelta\n"
        "HOST = os.environ.get('NOPE', 'h')\n"
        "broker_url = f'redis://{HOST}'\n"
        "result_expires = timedelta(minutes=1)\n"
        "def helper(): ...\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = configured("celeryconfig").settings
    assert settings.broker == "redis://h"
    assert settings.result_expires == 60.0
    with pytest.raises(ConfigurationError, match="no module 'celeryconfigg'"):
        configured("celeryconfigg")


def test_an_object_by_name(folder: Path) -> None:
    (folder / "shopconf.py").write_text("class Config:\n    broker_url = 'redis://h'\n")
    assert configured("shopconf:Config").settings.broker == "redis://h"
    assert configured("shopconf.Config").settings.broker == "redis://h"
    with pytest.raises(ConfigurationError, match=r"no 'shopconf.Nothing'"):
        configured("shopconf.Nothing")


def test_what_the_users_module_raises_passes_through(folder: Path) -> None:
    (folder / "broken.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        configured("broken")


def test_what_is_not_honoured_is_named_in_one_warning() -> None:
    with pytest.warns(UserWarning, match="does not honour: worker_pool, CELERYD_PREFETCH_MULTIPLIER") as caught:
        configured({"worker_pool": "gevent", "CELERYD_PREFETCH_MULTIPLIER": 1, "broker_url": "redis://h"})
    assert len(caught) == 1
    assert caught[0].filename == __file__ or "test_celery_config" in caught[0].filename


def test_names_that_nobody_knows_are_named_with_what_may_be_meant() -> None:
    with pytest.warns(UserWarning, match=r"knows: task_acks_lat \(did you mean task_acks_late\?\), xyzzy$") as caught:
        configured({"task_acks_lat": True, "xyzzy": 1})
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"CELERY_TASK_SERIALISER \(did you mean CELERY_TASK_SERIALIZER\?\)"):
        configured({"CELERY_TASK_SERIALISER": "json", "OTHER": 1}, namespace="CELERY")


def test_a_modules_own_names_are_no_settings() -> None:
    module = types.ModuleType("conf")
    vars(module).update(REGION="eu-west-1", Path=Path, types=types, brokerurl="redis://typo")
    with pytest.warns(UserWarning, match=r"knows: brokerurl \(did you mean broker_url\?\)$"):
        configured(module)


def test_celerys_own_defaults_and_what_is_so_anyway_need_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configured({name: setting.default for name, setting in CELERY_SETTINGS.items()})
        configured({"broker_connection_retry_on_startup": True, "task_reject_on_worker_lost": True})


def test_two_values_for_one_setting_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="task_serializer and CELERY_TASK_SERIALIZER are the same setting"):
        configured({"task_serializer": "json", "CELERY_TASK_SERIALIZER": "yaml"})
    configured({"task_serializer": "json", "CELERY_TASK_SERIALIZER": "json"})


def test_a_later_call_replaces_an_earlier_one() -> None:
    queue = configured({"task_default_queue": "a", "task_track_started": True})
    queue.config_from_object({"task_default_queue": "b"})
    assert queue.settings.default_queue == "b"
    assert not queue.settings.track_started


async def test_it_comes_before_the_first_send() -> None:
    queue = AsyncQ("shop", broker="memory://")
    async with queue:
        await queue.send_task("shop.add")
        with pytest.raises(ConfigurationError, match="before the first send"):
            queue.config_from_object({"task_default_queue": "b"})
    queue.config_from_object({"task_default_queue": "b"})


def test_the_configuration_of_a_team_that_moves_to_sqs(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import quote

    monkeypatch.setenv("VISIBILITY", "3600")
    key, secret = quote("AK/IA", safe=""), quote("canary+/=", safe="")
    config = {
        "broker_url": f"sqs://{key}:{secret}@",
        "broker_transport_options": {"region": "ap-northeast-1", "visibility_timeout": "3600"},
        "result_backend": "dynamodb://@ap-northeast-1/table_name",
        "worker_concurrency": "4",
    }
    queue = configured(config)
    assert queue.settings.concurrency == 4
    assert queue.make_broker().address == "sqs in ap-northeast-1"
    backend = queue.make_backend()
    assert backend is not None
    assert backend.address == "dynamodb in ap-northeast-1/table_name"


@pytest.mark.parametrize(
    ("config", "claim", "expires"),
    [
        ({}, 6.0, 86400.0),
        ({"result_chord_join_timeout": 60, "result_expires": None}, 120.0, None),
        ({"result_chord_join_timeout": 1, "result_chord_expires": timedelta(hours=1)}, 5.0, 3600.0),
        ({"CELERY_RESULT_CHORD_JOIN_TIMEOUT": None, "CELERY_TASK_RESULT_EXPIRES": 60}, 10.0, 60.0),
    ],
)
def test_chords_are_waited_for_as_long_as_with_celery(
    config: dict[str, Any], claim: float, expires: float | None
) -> None:
    settings = configured(config).settings

    assert (settings.chord_claim, settings.chord_expires) == (claim, expires)


def test_how_often_an_unlocking_task_looks_is_celerys_setting() -> None:
    assert configured({"result_chord_retry_interval": 5}).settings.result_chord_retry_interval == 5.0
